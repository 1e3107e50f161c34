package import APIClient
import Model

/// Names of the variables that configure Martlet. No other code contains the names.
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
  case publicHosts = "MARTLET_PUBLIC_HOSTS"
  case retentionDays = "MARTLET_RETENTION_DAYS"
  case quarantineDays = "MARTLET_QUARANTINE_DAYS"
  case networkRange = "MARTLET_NETWORK_RANGE"
  case hostListen = "MARTLET_HOST_LISTEN"
  case hostAddress = "MARTLET_HOST_ADDRESS"
}

/// Settings by precedence: command-line option, environment, `.env`, default.
package struct Settings: Sendable, Equatable {
  static let prefix = "MARTLET_"

  private let environment: [String: String]
  private let file: [String: String]

  package init(environment: [String: String], file: [String: String]) {
    self.environment = environment
    self.file = file
  }

  /// The variables of both sources; the environment takes precedence.
  package var merged: [String: String] { file.merging(environment) { _, real in real } }

  /// Names of the variables whose value comes from `.env`.
  package var namesFromFile: Set<String> { Set(file.keys).subtracting(environment.keys) }

  /// An empty variable counts as not set.
  package func value(_ name: SettingName, option: String? = nil) -> String? {
    for candidate in [option, environment[name.rawValue], file[name.rawValue]] {
      if let candidate, !candidate.isEmpty { return candidate }
    }
    return nil
  }

  /// Refuses unknown names, so that a misspelt setting is not silently ignored.
  ///
  /// In the environment only names that begin with `MARTLET_` are checked; in `.env` all are.
  package func refuseUnknownNames() throws(APIError) {
    for name in file.keys.sorted() where SettingName(rawValue: name) == nil { throw unknown(name, "in .env") }
    for name in environment.keys.sorted() where name.hasPrefix(Self.prefix) && SettingName(rawValue: name) == nil {
      throw unknown(name, "in the environment")
    }
  }

  private func unknown(_ name: String, _ place: String) -> APIError {
    let known = SettingName.allCases.map(\.rawValue)
    let hint =
      Suggestion.nearest(to: name.uppercased(), among: known, maximumDistance: 4).map { "did you mean \($0)?" }
      ?? "known are \(known.joined(separator: ", "))"
    return APIError(.invalidInput, "\(name) \(place) is not a setting of Martlet; \(hint)")
  }
}
