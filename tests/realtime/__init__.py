"""Tests of realtime: the client, and the embedded server over raw sockets."""
