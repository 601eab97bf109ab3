"""age encryption and Ed25519 signatures on `cryptography` primitives."""
