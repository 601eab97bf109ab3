"""The fault campaigns, `make campaign`: restores over real hosts, and (``storage``) requests to a store."""
