/// Names of the signals that the API accepts. Source: signal(7), x86 and ARM numbers.
package enum SignalName {
  private static let numbers: [String: Int32] = [
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
    "SIGKILL": 9,
    "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGSTKFLT": 16,
    "SIGCHLD": 17,
    "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20, "SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23, "SIGXCPU": 24,
    "SIGXFSZ": 25,
    "SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGIO": 29, "SIGPWR": 30, "SIGSYS": 31,
  ]

  /// The number of a signal name with or without `SIG`, in any case.
  package static func number(of name: String) -> Int32? {
    let upper = name.uppercased()
    return numbers[upper.hasPrefix("SIG") ? upper : "SIG\(upper)"]
  }

  package static func name(of number: Int32) -> String? {
    numbers.first { $0.value == number }?.key
  }
}
