"""Object stores: one small seam (`base.ObjectStore`) and its implementations."""
