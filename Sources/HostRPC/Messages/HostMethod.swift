/// The methods of `martlet.host.v1.HostService` (protos/host.proto), by their names on the wire.
package enum HostMethod: String, Sendable, CaseIterable {
  case createSandbox = "CreateSandbox"
  case destroySandbox = "DestroySandbox"
  case pauseSandbox = "PauseSandbox"
  case resumeSandbox = "ResumeSandbox"
  case forkSandbox = "ForkSandbox"
  case setTimeout = "SetTimeout"
  case listSandboxes = "ListSandboxes"
  case getSandbox = "GetSandbox"
  case pingSandbox = "PingSandbox"
  case createSnapshot = "CreateSnapshot"
  case deleteSnapshot = "DeleteSnapshot"
  case listTemplates = "ListTemplates"
  case getQuarantine = "GetQuarantine"
  case quarantineSandbox = "QuarantineSandbox"
  case quarantineSnapshot = "QuarantineSnapshot"
  case releaseSandbox = "ReleaseSandbox"
  case releaseSnapshot = "ReleaseSnapshot"
  case removeQuarantinedSnapshot = "RemoveQuarantinedSnapshot"
  case startProcess = "StartProcess"
  case attachProcess = "AttachProcess"
  case sendInput = "SendInput"
  case closeInput = "CloseInput"
  case resizeTerminal = "ResizeTerminal"
  case signalSession = "SignalSession"
  case detachSession = "DetachSession"
  case listProcesses = "ListProcesses"
  case signalProcess = "SignalProcess"
  /// Not a method of the service but a plain HTTP request; see `HostFilesRoute`.
  case writeFile = "WriteFile"
  case readFile = "ReadFile"
  case listDirectory = "ListDirectory"
  case getFileStatus = "GetFileStatus"
  case makeDirectory = "MakeDirectory"
  case renameFile = "RenameFile"
  case removeFile = "RemoveFile"
  case getMetrics = "GetMetrics"

  package static let service = "martlet.host.v1.HostService"
}

/// The HTTP route for file uploads to the host. Unlike a Connect call, its body has back pressure, and a response
/// before the end of the body stops the upload.
package enum HostFilesRoute {
  package static let path = "/files"
  /// The query parameter with the request message (`FileRequest`) as base64url.
  package static let parameter = "request"
}

/// Limits that client and server share: keep-alive intervals and message sizes.
package enum HostMessageLimits {
  /// The interval of keep-alive events, during an operation and while a process writes nothing.
  package static let keepAlive: Duration = .seconds(15)
  /// A stream without any event for this long is broken.
  package static let streamIdle: Duration = .seconds(60)
  /// Output, input and file contents are sent in parts of at most this many bytes.
  package static let pieceBytes = 262_144
  /// The maximum size of a message to a host: a specification; a command with its arguments and environment; for a fork
  /// also the ids of the copies.
  package static let requestBytes = 4_194_304
  /// The maximum size of a message from a host: a list.
  package static let responseBytes = 33_554_432
}
