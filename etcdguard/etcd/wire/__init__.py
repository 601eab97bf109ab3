"""etcd's wire format: generated messages (wire_pb2, from wire.proto) and a strict field reader (fields)."""
