import Glibc
package import Protos

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
