"""The server's half of realtime: events written with each change, and the sockets that are told of them."""
