"""The fault campaign: every fault at every phase boundary of a restore over real hosts; `make campaign`."""
