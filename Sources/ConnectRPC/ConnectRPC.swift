// ConnectRPC
