import Model

/// The response of a saving process: one line, `saved STORED ZEROED EQUAL` or `failed CODE SENTENCE`.
enum SavingResponse: Equatable {
  case saved(SavedMemory)
  case failed(ErrorCode, String)

  static let maximumBytes = 1_023

  init(_ error: MartletError) {
    self = .failed(error.code, error.message)
  }

  var line: String {
    switch self {
    case .saved(let memory): "saved \(memory.storedPages) \(memory.zeroedPages) \(memory.equalPages)\n"
    case .failed(let code, let sentence): "failed \(code.rawValue) \(sentence)\n"
    }
  }

  /// Nil for a line that `line` does not generate: the process ended while writing.
  init?(line: String) {
    guard line.hasSuffix("\n") else { return nil }
    let words = line.dropLast().split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count == 3 else { return nil }
    switch words[0] {
    case "failed":
      guard let code = ErrorCode(rawValue: String(words[1])) else { return nil }
      self = .failed(code, String(words[2]))
    case "saved":
      let numbers = words[2].split(separator: " ").compactMap { Int($0) }
      guard let stored = Int(words[1]), numbers.count == 2 else { return nil }
      self = .saved(SavedMemory(storedPages: stored, zeroedPages: numbers[0], equalPages: numbers[1]))
    default:
      return nil
    }
  }
}
