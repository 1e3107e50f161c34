import ControlPlane
import HTTPTypes
import Hummingbird
import Model

/// The session of a browser: a cookie that scripts cannot read and that other sites' requests do not carry.
///
/// With TLS its name begins with `__Host-`, which no other host of the domain can set, a page in a sandbox least of
/// all.
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

  /// Only the name that this server gives the cookie counts: with TLS anybody who serves a host of the domain could
  /// have set the other.
  /// - Throws: `unauthorized` when there are several: one of them was planted.
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
    guard tokens.count <= 1 else { throw MartletError(.unauthorized, "there are two session cookies; log in again") }
    return tokens.first.map(String.init)
  }

  private static func header(value: String, maxAge: Int, isSecure: Bool) -> String {
    "\(isSecure ? secureName : plainName)=\(value); Path=/; Max-Age=\(maxAge); HttpOnly; SameSite=Strict\(isSecure ? "; Secure" : "")"
  }
}
