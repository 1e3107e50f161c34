package import Foundation

/// Content of the file `credentials.json`, which `martlet up` writes into the data directory on its first run.
package struct CredentialsFile: Codable, Sendable, Equatable {
  package static let fileName = "credentials.json"
  /// Maximum size of the file; larger files are refused.
  package static let maximumBytes = 64 << 10

  package var url: String?
  package var apiKey: String
  package var adminEmail: String?
  package var adminPassword: String?

  enum CodingKeys: String, CodingKey {
    case url
    case apiKey = "api_key"
    case adminEmail = "admin_email"
    case adminPassword = "admin_password"
  }
}

/// A server's address and an API key for it.
package struct ClientCredentials: Sendable, Equatable {
  package let endpoint: Endpoint
  package let apiKey: String

  package init(endpoint: Endpoint, apiKey: String) {
    self.endpoint = endpoint
    self.apiKey = apiKey
  }
}

/// Finds credentials: in options, then in MARTLET_URL and MARTLET_API_KEY, then in `credentials.json` of the data
/// directory, then in that of the user's configuration directory.
///
/// A key from a file is sent only to the server that the file names, so that `--url` never sends a local key to another
/// server. Likewise a server that only the `.env` of the current directory names receives only a key from that file,
/// because another user may own the directory.
package struct CredentialsDiscovery: Sendable {
  package enum FileContent: Sendable {
    case missing
    case unreadable(String)
    case data(Data)
  }

  package static let defaultDataDirectory = "/var/lib/martlet"

  private let environment: [String: String]
  private let namesFromDotEnv: Set<String>
  private let readFile: @Sendable (_ path: String) -> FileContent

  /// - Parameters:
  ///   - environment: variables, with those of `.env` already merged below the real ones.
  ///   - namesFromDotEnv: names of the variables whose value comes from `.env`.
  package init(
    environment: [String: String], namesFromDotEnv: Set<String> = [],
    readFile: @escaping @Sendable (String) -> FileContent = CredentialsDiscovery.readFile
  ) {
    self.environment = environment
    self.namesFromDotEnv = namesFromDotEnv
    self.readFile = readFile
  }

  /// - Throws: `no_credentials` with the remedy, `invalid_input` for a malformed address or key.
  package func find(url: String?, apiKey: String?) throws(APIError) -> ClientCredentials {
    let givenURL = url ?? value("MARTLET_URL")
    let givenKey = apiKey ?? value("MARTLET_API_KEY")
    let endpoint: Endpoint? = if let givenURL { try Endpoint(givenURL) } else { nil }
    if let endpoint, url == nil, namesFromDotEnv.contains("MARTLET_URL") {
      return try directoryCredentials(endpoint, option: apiKey)
    }
    if let givenKey, let endpoint { return try checked(ClientCredentials(endpoint: endpoint, apiKey: givenKey)) }
    var obstacles: [String] = []
    for path in paths {
      guard let file = try load(path, obstacles: &obstacles) else { continue }
      let fileEndpoint: Endpoint = if let url = file.url { try Endpoint(url) } else { .local }
      if let givenKey { return try checked(ClientCredentials(endpoint: endpoint ?? fileEndpoint, apiKey: givenKey)) }
      guard endpoint?.isSameServer(as: fileEndpoint) != false else {
        obstacles.append("\(path) is for \(fileEndpoint)")
        continue
      }
      return try checked(ClientCredentials(endpoint: endpoint ?? fileEndpoint, apiKey: file.apiKey))
    }
    if let givenKey { return try checked(ClientCredentials(endpoint: endpoint ?? .local, apiKey: givenKey)) }
    throw missing(endpoint, obstacles)
  }

  /// Credentials for a server that only the `.env` of the current directory names.
  private func directoryCredentials(_ endpoint: Endpoint, option: String?) throws(APIError) -> ClientCredentials {
    if let key = option ?? (namesFromDotEnv.contains("MARTLET_API_KEY") ? value("MARTLET_API_KEY") : nil) {
      return try checked(ClientCredentials(endpoint: endpoint, apiKey: key))
    }
    var obstacles: [String] = []
    for path in paths {
      guard let file = try load(path, obstacles: &obstacles) else { continue }
      let fileEndpoint: Endpoint = if let url = file.url { try Endpoint(url) } else { .local }
      guard endpoint.isSameServer(as: fileEndpoint) else { continue }
      return try checked(ClientCredentials(endpoint: endpoint, apiKey: value("MARTLET_API_KEY") ?? file.apiKey))
    }
    guard value("MARTLET_API_KEY") == nil else {
      throw APIError(
        .noCredentials,
        "MARTLET_URL in this directory's .env names \(endpoint); the MARTLET_API_KEY of your environment is not sent "
          + "to a server that only a .env file names; set MARTLET_URL in the environment too, or give --url")
    }
    throw missing(endpoint, obstacles)
  }

  /// Paths of the credentials files, in the order of the search.
  package var paths: [String] {
    let dataDirectory = value("MARTLET_DATA_DIR") ?? Self.defaultDataDirectory
    var paths = ["\(dataDirectory)/\(CredentialsFile.fileName)"]
    if let directory = value("XDG_CONFIG_HOME") ?? value("HOME").map({ "\($0)/.config" }) {
      paths.append("\(directory)/martlet/\(CredentialsFile.fileName)")
    }
    return paths
  }

  private func value(_ key: String) -> String? {
    environment[key].flatMap { $0.isEmpty ? nil : $0 }
  }

  private func load(_ path: String, obstacles: inout [String]) throws(APIError) -> CredentialsFile? {
    switch readFile(path) {
    case .missing: return nil
    case .unreadable(let reason):
      obstacles.append("\(path) cannot be read: \(reason)")
      return nil
    case .data(let data):
      guard data.count <= CredentialsFile.maximumBytes,
        let file = try? JSONDecoder().decode(CredentialsFile.self, from: data)
      else {
        throw APIError(.noCredentials, "\(path) is not a credentials file; remove it and run `martlet up` again")
      }
      return file
    }
  }

  private func missing(_ endpoint: Endpoint?, _ obstacles: [String]) -> APIError {
    let subject = endpoint.map { "no API key for \($0) was found" } ?? "no credentials were found"
    let notes = obstacles.isEmpty ? "" : " (\(obstacles.joined(separator: "; ")))"
    return APIError(
      .noCredentials,
      "\(subject)\(notes); run `martlet up` on this machine, or set MARTLET_API_KEY (and MARTLET_URL), "
        + "or give --api-key")
  }

  /// Checks that the key has only visible ASCII characters, because it is sent in a header.
  private func checked(_ credentials: ClientCredentials) throws(APIError) -> ClientCredentials {
    let bytes = credentials.apiKey.utf8
    guard (1...512).contains(bytes.count), bytes.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw APIError(.invalidInput, "the API key has invalid characters; check --api-key and MARTLET_API_KEY")
    }
    return credentials
  }

  package static let readFile: @Sendable (String) -> FileContent = { path in
    do {
      return .data(try Data(contentsOf: URL(filePath: path)))
    } catch let error as CocoaError where error.code == .fileReadNoSuchFile || error.code == .fileNoSuchFile {
      return .missing
    } catch let error as CocoaError where error.code == .fileReadNoPermission {
      return .unreadable("permission denied")
    } catch {
      return .unreadable("it is not a readable regular file")
    }
  }
}
