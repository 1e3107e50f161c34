import Model

/// Signal names and numbers. Source: signal(7), the numbers of x86-64 and arm64
enum Signal {
  static let kill: Int32 = 9

  private static let numbers: [String: Int32] = [
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12,
    "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21,
    "TTOU": 22,
    "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
  ]

  /// - Parameter text: `SIGTERM`, `TERM` or `15`.
  /// - Throws: `invalid_request`.
  static func number(_ text: String) throws(MartletError) -> Int32 {
    if let number = Int32(text), (1...64).contains(number) { return number }
    let name = text.uppercased()
    guard let number = numbers[name.hasPrefix("SIG") ? String(name.dropFirst(3)) : name] else {
      throw MartletError(.invalidRequest, "signal must be a name such as SIGTERM or a number from 1 to 64")
    }
    return number
  }
}
