"""The read side: what is, folded from what happened. Every table here can be rebuilt from events alone."""

# The engine's front door composes both sides: whichever is imported first, it has to come in through there.
import engine as engine
