/// The credentials that the first run creates for the administrator. They are written to a file that only its owner can
/// read, and never logged.
package struct Credentials: Sendable, Equatable, Codable {
  package var apiKey: String
  package var adminEmail: String
  package var adminPassword: String
  package var url: String
  /// The installation that they are for; nil in files of earlier versions.
  package var installation: String?

  package enum CodingKeys: String, CodingKey {
    case apiKey = "api_key"
    case adminEmail = "admin_email"
    case adminPassword = "admin_password"
    case url, installation
  }

  package init(
    apiKey: String, adminEmail: String, adminPassword: String, url: String, installation: String? = nil
  ) {
    self.apiKey = apiKey
    self.adminEmail = adminEmail
    self.adminPassword = adminPassword
    self.url = url
    self.installation = installation
  }
}
