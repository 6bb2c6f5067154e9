"""The read side: current state, folded from events. Every table here can be rebuilt from events alone."""

# `engine` imports both sides in an order that avoids a cycle, so it has to be imported first.
import engine as engine
