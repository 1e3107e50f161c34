/// The methods of `martlet.host.v1.HostService` (protos/host.proto) by their names on the wire.
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
  case startProcess = "StartProcess"
  case attachProcess = "AttachProcess"
  case sendInput = "SendInput"
  case closeInput = "CloseInput"
  case resizeTerminal = "ResizeTerminal"
  case signalSession = "SignalSession"
  case detachSession = "DetachSession"
  case listProcesses = "ListProcesses"
  case signalProcess = "SignalProcess"
  /// A plain request beside the service; see `HostFilesRoute`.
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

/// The plain route beside the service on which contents of files come to the host: a body has back-pressure by itself,
/// and an answer before its end stops it.
package enum HostFilesRoute {
  package static let path = "/files"
  /// In the query: the request's message (`FileRequest`) as base64url.
  package static let parameter = "request"
}

/// How often either side gives a sign of life, and how long the other waits for one; both sides go by the same numbers.
package enum HostMessageLimits {
  /// While an operation is at work, or a process says nothing.
  package static let keepAlive: Duration = .seconds(15)
  /// A stream without a sign of life for this long is broken.
  package static let silence: Duration = .seconds(60)
  /// Output, input and contents of files travel in pieces of at most this size, in bytes.
  package static let pieceBytes = 262_144
  /// Longest message to a host: a specification, or a command with its arguments and environment; of a fork the copies'
  /// ids besides.
  package static let requestBytes = 4_194_304
  /// Longest message of a host: a list.
  package static let answerBytes = 33_554_432
}
