// GuestClient
