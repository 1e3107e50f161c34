// ConnectClient
