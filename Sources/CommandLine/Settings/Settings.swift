package import APIClient

/// Variables by which Martlet is set up; the only place that knows their names.
package enum SettingName: String, CaseIterable, Sendable {
  case listen = "MARTLET_LISTEN"
  case dataDirectory = "MARTLET_DATA_DIR"
  case imageDirectory = "MARTLET_IMAGE_DIR"
  case accelerator = "MARTLET_ACCELERATOR"
  case logLevel = "MARTLET_LOG_LEVEL"
  case warmPool = "MARTLET_WARM_POOL"
  case url = "MARTLET_URL"
  case apiKey = "MARTLET_API_KEY"
  case databaseURL = "DATABASE_URL"
  case databasePassword = "PGPASSWORD"
  case tokenSecret = "MARTLET_JWT_SECRET"
  case signUp = "MARTLET_SIGN_UP"
  case rateLimit = "MARTLET_RATE_LIMIT"
  case trustedProxies = "MARTLET_TRUSTED_PROXIES"
  case retentionDays = "MARTLET_RETENTION_DAYS"
  case hostListen = "MARTLET_HOST_LISTEN"
  case hostAddress = "MARTLET_HOST_ADDRESS"
}

/// Settings by precedence: option of the command line, real environment, `.env`, default (CFG-1).
package struct Settings: Sendable, Equatable {
  static let prefix = "MARTLET_"

  private let environment: [String: String]
  private let file: [String: String]

  package init(environment: [String: String], file: [String: String]) {
    self.environment = environment
    self.file = file
  }

  /// Both sources, real variables winning.
  package var merged: [String: String] { file.merging(environment) { _, real in real } }

  /// Names that have their value from `.env`.
  package var namesFromFile: Set<String> { Set(file.keys).subtracting(environment.keys) }

  /// An empty variable counts as not set.
  package func value(_ name: SettingName, option: String? = nil) -> String? {
    for candidate in [option, environment[name.rawValue], file[name.rawValue]] {
      if let candidate, !candidate.isEmpty { return candidate }
    }
    return nil
  }

  /// Refuses names that mean nothing, so that a typing error is not a silently ignored setting.
  ///
  /// In the environment only names that begin with `MARTLET_` are looked at; in `.env` all are.
  package func refuseUnknownNames() throws(APIError) {
    for name in file.keys.sorted() where SettingName(rawValue: name) == nil { throw unknown(name, "in .env") }
    for name in environment.keys.sorted() where name.hasPrefix(Self.prefix) && SettingName(rawValue: name) == nil {
      throw unknown(name, "in the environment")
    }
  }

  private func unknown(_ name: String, _ place: String) -> APIError {
    let known = SettingName.allCases.map(\.rawValue)
    let hint =
      Suggestion.closest(to: name, among: known).map { "did you mean \($0)?" }
      ?? "known are \(known.joined(separator: ", "))"
    return APIError(.invalidInput, "\(name) \(place) is not a setting of Martlet; \(hint)")
  }
}

/// Finds what a person may have meant.
enum Suggestion {
  /// A word this many edits away or fewer is worth suggesting.
  private static let maximumDistance = 4

  static func closest(to word: String, among candidates: [String]) -> String? {
    let upper = word.uppercased()
    let ranked = candidates.map { (distance(Array(upper.utf8), Array($0.utf8)), $0) }
    return ranked.filter { $0.0 <= maximumDistance }.min { $0.0 < $1.0 }?.1
  }

  /// Levenshtein's distance.
  private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var previous = Array(0...right.count)
    for (row, byte) in left.enumerated() {
      var current = [row + 1]
      for (column, other) in right.enumerated() {
        current.append(min(previous[column] + (byte == other ? 0 : 1), previous[column + 1] + 1, current[column] + 1))
      }
      previous = current
    }
    return previous[right.count]
  }
}
