"""Health checks of a cluster: facts are gathered in one place and judged, purely, in others."""
