package import Connect
package import LinuxSystem
import SystemPackage

/// Errors of the process service. Mapped to Connect errors below.
package enum ProcessServiceError: Error, Sendable, Equatable {
  case invalidRequest(String)
  case invalidUser(String)
  case unknownPID(UInt32)
  case unknownTag(String)
  case workingDirectoryMissing(String)
  case workingDirectoryNotADirectory(String)
  case commandNotFound(String)
  case commandNotExecutable(String)
  case permissionDenied(String)
  case argumentsTooLong
  case unsupportedSignal(Int)
  case noStandardInput
  case noTerminal
  case inputNeedsTerminal
  case inputNeedsStandardInput
  case inputClosed
  case inputOverflow
  case tooManySubscribers
  case tooManyProcesses
  case subscriberTooSlow
  case over
  case failed(SystemError)
}

extension ConnectError {
  /// The codes are those of E2B's agent where clients depend on them. Source: E2B's envd contract
  package init(_ error: ProcessServiceError) {
    switch error {
    case .invalidRequest(let text): self.init(.invalidArgument, text)
    case .invalidUser(let name): self.init(.unauthenticated, "invalid username: '\(name)'")
    case .unknownPID(let pid): self.init(.notFound, "process with pid \(pid) not found")
    case .unknownTag(let tag): self.init(.notFound, "process with tag \(tag) not found")
    case .workingDirectoryMissing(let path): self.init(.invalidArgument, "cwd '\(path)' does not exist")
    case .workingDirectoryNotADirectory(let path): self.init(.invalidArgument, "cwd '\(path)' is not a directory")
    case .commandNotFound(let command): self.init(.invalidArgument, "command '\(command)' not found")
    case .commandNotExecutable(let command): self.init(.invalidArgument, "command '\(command)' is not executable")
    case .permissionDenied(let text): self.init(.permissionDenied, text)
    case .argumentsTooLong: self.init(.invalidArgument, "arguments and environment are too long for the kernel")
    case .unsupportedSignal(let number): self.init(.unimplemented, "signal \(number) is not supported")
    case .noStandardInput: self.init(.internalError, "the process was started without standard input")
    case .noTerminal: self.init(.failedPrecondition, "the process has no terminal")
    case .inputNeedsTerminal: self.init(.internalError, "the process has a terminal: send pty input instead of stdin")
    case .inputNeedsStandardInput:
      self.init(.internalError, "the process has no terminal: send stdin instead of pty input")
    case .inputClosed: self.init(.internalError, "the process's standard input is closed")
    case .inputOverflow:
      self.init(.resourceExhausted, "more than \(InputWriter.queueLimitBytes) bytes of input are waiting already")
    case .tooManySubscribers: self.init(.resourceExhausted, "too many clients listen to this process")
    case .tooManyProcesses: self.init(.resourceExhausted, "the guest cannot run more processes")
    case .subscriberTooSlow:
      self.init(.resourceExhausted, "this client read too slowly while others waited; its stream was ended")
    case .over: self.init(.notFound, "the process has ended")
    case .failed(let error): self.init(.internalError, "\(error.call) failed: \(error.errno)")
    }
  }
}
