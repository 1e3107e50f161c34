import ConnectClient
import Foundation
import NIOHTTP1

/// Signs calls to one host and verifies the signatures of its responses.
struct HostCallSigner: CallAuthenticator {
  let secret: HostSecret
  let now: @Sendable () -> Date

  func sign(_ method: HTTPMethod, _ target: String) -> CallProof {
    let signature = CallSignature(method.rawValue, target, at: now(), with: secret)
    let headers: HTTPHeaders = [
      CallSignature.timeHeader: signature.time, CallSignature.nonceHeader: signature.nonce,
      CallSignature.macHeader: signature.mac,
    ]
    let secret = secret
    return CallProof(headers: headers) { status, headers in
      signature.isValidResponse(
        status: Int(status.code), mac: headers.first(name: CallSignature.responseHeader), with: secret)
    }
  }
}
