package import Foundation

/// A user's session with one server, which `martlet login` stores in the user's configuration directory (mode 0600).
package struct StoredSession: Codable, Sendable, Equatable {
  package static let fileName = "session.json"

  package var url: String
  package var token: String
  package var email: String
  package var teamID: String
  package var userID: String
  /// RFC 3339
  package var expiresAt: String

  package init(_ session: SessionResource, at endpoint: Endpoint) {
    url = endpoint.description
    token = session.token
    email = session.email
    teamID = session.teamID
    userID = session.userID
    expiresAt = session.expiresAt
  }

  enum CodingKeys: String, CodingKey {
    case url, token, email
    case teamID = "team_id"
    case userID = "user_id"
    case expiresAt = "expires_at"
  }

  /// Whether the session is valid for at least another 30 seconds.
  package func isValid(at now: Date) -> Bool {
    guard let end = try? Date(expiresAt, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) else {
      return false
    }
    return now.addingTimeInterval(30) < end
  }
}

/// Finds a user's credentials for a server: a stored session, or the administrator in the file of `martlet up`.
///
/// Credentials from a file are sent only to the server that the file names.
package struct SessionDiscovery: Sendable {
  package enum Identity: Sendable, Equatable {
    case session(StoredSession)
    /// Email address and password for a log-in.
    case password(endpoint: Endpoint, email: String, password: String)
  }

  private let environment: [String: String]
  private let readFile: @Sendable (_ path: String) -> CredentialsDiscovery.FileContent

  package init(
    environment: [String: String],
    readFile: @escaping @Sendable (String) -> CredentialsDiscovery.FileContent = CredentialsDiscovery.readFile
  ) {
    self.environment = environment
    self.readFile = readFile
  }

  /// Path of the stored session; nil if neither XDG_CONFIG_HOME nor HOME is set.
  package var sessionPath: String? {
    let value = { (name: String) in environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    return (value("XDG_CONFIG_HOME") ?? value("HOME").map { "\($0)/.config" }).map {
      "\($0)/martlet/\(StoredSession.fileName)"
    }
  }

  /// The server of `--url`, MARTLET_URL, the stored session, or the credentials file, in this order.
  package func endpoint(url: String?) throws(APIError) -> Endpoint {
    if let text = url ?? environment["MARTLET_URL"], !text.isEmpty { return try Endpoint(text) }
    if let session = storedSession { return try Endpoint(session.url) }
    guard let text = credentialsFile?.url else { return .local }
    return try Endpoint(text)
  }

  /// - Throws: `no_credentials` with the remedy.
  package func find(url: String?, now: Date = Date()) throws(APIError) -> Identity {
    let endpoint = try endpoint(url: url)
    if let session = storedSession, session.isValid(at: now), try Endpoint(session.url).isSameServer(as: endpoint) {
      return .session(session)
    }
    if let file = credentialsFile, let email = file.adminEmail, let password = file.adminPassword {
      let server: Endpoint = if let text = file.url { try Endpoint(text) } else { .local }
      if server.isSameServer(as: endpoint) { return .password(endpoint: endpoint, email: email, password: password) }
    }
    throw APIError(.noCredentials, "you are not logged in to \(endpoint); run `martlet login`")
  }

  package var storedSession: StoredSession? {
    guard let sessionPath else { return nil }
    return load(sessionPath)
  }

  private var credentialsFile: CredentialsFile? {
    for path in CredentialsDiscovery(environment: environment, readFile: readFile).paths {
      if let file: CredentialsFile = load(path) { return file }
    }
    return nil
  }

  private func load<Content: Decodable>(_ path: String) -> Content? {
    guard case .data(let data) = readFile(path), data.count <= CredentialsFile.maximumBytes else { return nil }
    return try? JSONDecoder().decode(Content.self, from: data)
  }
}
