import ConnectClient
import Foundation
import Model
import NIOHTTP1

/// Signs calls to one host and verifies the signatures of its responses.
struct HostCallSigner: CallAuthenticator {
  let secret: HostSecret
  /// That of the caller's database.
  let installation: InstallationID?
  let now: @Sendable () -> Date

  func sign(_ method: HTTPMethod, _ target: String) -> CallProof {
    let signature = CallSignature(method.rawValue, target, at: now(), installation: installation, with: secret)
    var headers: HTTPHeaders = [
      CallSignature.timeHeader: signature.time, CallSignature.nonceHeader: signature.nonce,
      CallSignature.macHeader: signature.mac,
    ]
    if let installation = signature.installation {
      headers.add(name: CallSignature.installationHeader, value: installation)
    }
    let secret = secret
    return CallProof(headers: headers) { status, headers in
      signature.isValidResponse(
        status: Int(status.code), mac: headers.first(name: CallSignature.responseHeader), with: secret)
    }
  }
}
