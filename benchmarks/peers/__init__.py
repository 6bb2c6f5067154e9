"""One file for each way to store runs that anabranch is compared with, and anabranch itself."""
