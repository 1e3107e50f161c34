import ControlPlane
import HTTPTypes
import Hummingbird
import Model

/// A browser's session cookie: scripts cannot read it, and browsers do not send it with requests of other sites.
///
/// With TLS its name begins with `__Host-`, so that no other host of the domain can set it, such as a page that a
/// sandbox serves.
///
/// Source: draft-ietf-httpbis-rfc6265bis section 4.1.3
enum SessionCookie {
  static let plainName = "martlet_session"
  static let secureName = "__Host-martlet_session"

  static func header(_ session: Session, isSecure: Bool) -> String {
    header(value: session.token, maxAge: Int(Session.lifetime), isSecure: isSecure)
  }

  static func expired(isSecure: Bool) -> String {
    header(value: "", maxAge: 0, isSecure: isSecure)
  }

  /// The session token of a request's cookie. With TLS only the `__Host-` name is read: any other host of the domain
  /// can set the plain name.
  /// - Throws: `unauthorized` if there are several such cookies, because another host may have set one of them.
  static func token(_ request: Request, isSecure: Bool) throws(MartletError) -> String? {
    let name = isSecure ? secureName : plainName
    var tokens: [Substring] = []
    for header in request.headers[values: .cookie] {
      for pair in header.split(separator: ";") {
        let sides = pair.trimmingPrefix { $0 == " " }.split(separator: "=", maxSplits: 1)
        guard sides.count == 2, sides[0] == name else { continue }
        tokens.append(sides[1])
      }
    }
    guard tokens.count <= 1 else {
      throw MartletError(.unauthorized, "the request has two session cookies; delete them and log in again")
    }
    return tokens.first.map(String.init)
  }

  private static func header(value: String, maxAge: Int, isSecure: Bool) -> String {
    "\(isSecure ? secureName : plainName)=\(value); Path=/; Max-Age=\(maxAge); HttpOnly; SameSite=Strict"
      + (isSecure ? "; Secure" : "")
  }
}
