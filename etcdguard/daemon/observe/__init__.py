"""What the daemon shows of itself: metrics, health, a status page, and messages when something is wrong."""
