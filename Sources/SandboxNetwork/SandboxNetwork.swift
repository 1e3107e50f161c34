// SandboxNetwork
