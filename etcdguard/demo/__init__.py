"""A throwaway cluster on which the main job is shown end to end."""
