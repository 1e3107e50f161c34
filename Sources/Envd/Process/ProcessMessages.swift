package import Connect
import Glibc
package import LinuxSystem
package import Protos
import SystemPackage

extension Process_ProcessEvent {
  init(_ update: ProcessUpdate) {
    self.init()
    switch update {
    case .started(let pid): start.pid = pid
    case .output(.standardOutput, let bytes): data.stdout = bytes
    case .output(.standardError, let bytes): data.stderr = bytes
    case .output(.terminal, let bytes): data.pty = bytes
    case .ended(let end): self.end = EndEvent(end)
    case .keepAlive: keepalive = KeepAlive()
    }
  }
}

extension Process_ProcessEvent.EndEvent {
  /// `status` has the texts of Go's os.ProcessState, which E2B's clients show. `error` is set unless the process
  /// succeeded.
  package init(_ end: ProcessEnd) {
    self.init()
    timedOut = end.isTimeout
    switch end.status {
    case .exited(let code):
      exitCode = code
      exited = true
      status = "exit status \(code)"
      if code != 0 { error = status }
    case .signaled(let number):
      exitCode = -1
      signal = number
      status = "signal: \(SignalTable.text(number))"
      error = status
    }
  }
}

extension Process_ProcessInfo {
  init(_ process: ManagedProcess) {
    self.init()
    pid = process.pid
    config.cmd = process.description.command
    config.args = process.description.arguments
    config.envs = process.description.environment
    if let directory = process.description.workingDirectory { config.cwd = directory }
    if let name = process.description.tag { tag = name }
  }
}

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

/// The signals that clients may send, and the texts of signals that end processes.
package enum SignalTable {
  /// The kernel's number for a signal of the contract.
  /// - Throws: `unsupportedSignal` for all other signals (E2B: `unimplemented`).
  package static func number(_ signal: Process_Signal) throws(ProcessServiceError) -> Int32 {
    switch signal {
    case .sighup, .sigint, .sigquit, .sigkill, .sigusr1, .sigusr2, .sigterm, .sigcont, .sigstop: Int32(signal.rawValue)
    case .unspecified, .UNRECOGNIZED: throw .unsupportedSignal(signal.rawValue)
    }
  }

  /// Text for a signal. Source: Go, syscall/zerrors_linux_amd64.go (`signals`), as E2B's agent reports it.
  package static func text(_ number: Int32) -> String {
    texts[number] ?? "signal \(number)"
  }

  private static let texts: [Int32: String] = [
    SIGHUP: "hangup", SIGINT: "interrupt", SIGQUIT: "quit", SIGILL: "illegal instruction",
    SIGTRAP: "trace/breakpoint trap",
    SIGABRT: "aborted", SIGBUS: "bus error", SIGFPE: "floating point exception", SIGKILL: "killed",
    SIGUSR1: "user defined signal 1", SIGSEGV: "segmentation fault", SIGUSR2: "user defined signal 2",
    SIGPIPE: "broken pipe",
    SIGALRM: "alarm clock", SIGTERM: "terminated", SIGSTKFLT: "stack fault", SIGCHLD: "child exited",
    SIGCONT: "continued",
    SIGSTOP: "stopped (signal)", SIGTSTP: "stopped", SIGTTIN: "stopped (tty input)", SIGTTOU: "stopped (tty output)",
    SIGURG: "urgent I/O condition", SIGXCPU: "CPU time limit exceeded", SIGXFSZ: "file size limit exceeded",
    SIGVTALRM: "virtual timer expired", SIGPROF: "profiling timer expired", SIGWINCH: "window changed",
    SIGIO: "I/O possible",
    SIGPWR: "power failure", SIGSYS: "bad system call",
  ]
}
