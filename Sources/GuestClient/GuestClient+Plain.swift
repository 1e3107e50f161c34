import AsyncHTTPClient
import Concurrency
import Connect
import ConnectClient
import Foundation
package import HostAPI
import Model
import NIOCore
import NIOHTTP1

/// The plain HTTP routes of the guest agent.
extension GuestClient {
  /// A request to a plain route. `path` is the route with its encoded query.
  func plainRequest(_ method: HTTPMethod, _ path: String) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: baseURL + path)
    request.method = method
    request.headers = headers()
    return request
  }

  /// Sends a short request and reads the short response.
  func perform(_ request: HTTPClientRequest, within limit: Duration, _ call: GuestCall) async throws -> ByteBuffer {
    try await guestCall(call) {
      try await withDeadline(
        limit, throwing: ConnectError(.deadlineExceeded, "the guest agent did not respond in time")
      ) {
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        let body = try await response.body.collect(upTo: limits.plainResponseBytes)
        guard (200..<300).contains(response.status.code) else { throw Self.refusal(response.status, body, call) }
        return body
      }
    }
  }

  /// Makes the error of a plain route from its JSON `{"code","message"}`.
  static func refusal(_ status: HTTPResponseStatus, _ body: ByteBuffer, _ call: GuestCall) -> MartletError {
    let error = try? JSONDecoder().decode(PlainError.self, from: Data(body.readableBytesView))
    let code = GuestErrors.code(httpStatus: Int(status.code), call)
    return GuestErrors.refusal(code, error?.message ?? "the guest agent responded with HTTP status \(status.code)")
  }

  /// Encodes a query value; everything that is not unreserved in RFC 3986 is escaped.
  static func queryValue(_ text: String) -> String {
    text.addingPercentEncoding(withAllowedCharacters: unreserved) ?? ""
  }

  private static let unreserved = CharacterSet(
    charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
}

private struct PlainError: Decodable {
  let message: String
}

extension GuestClient {
  package func metrics() async throws -> GuestMetrics {
    let body = try await perform(plainRequest(.GET, "/metrics"), within: limits.call, .control)
    do {
      return try GuestMetrics(JSONDecoder().decode(WireMetrics.self, from: body.foundationData))
    } catch {
      throw GuestErrors.unreachable(cause: error)
    }
  }
}

/// The JSON of `GET /metrics`. Source: E2B's envd contract
private struct WireMetrics: Decodable {
  /// Seconds since 1970.
  let timestamp: Double
  let cpuPercent: Double
  let memoryUsed: Int64
  let memoryTotal: Int64
  let diskUsed: Int64
  let diskTotal: Int64

  enum CodingKeys: String, CodingKey {
    case timestamp = "ts"
    case cpuPercent = "cpu_used_pct"
    case memoryUsed = "mem_used"
    case memoryTotal = "mem_total"
    case diskUsed = "disk_used"
    case diskTotal = "disk_total"
  }
}

extension GuestMetrics {
  fileprivate init(_ metrics: WireMetrics) {
    self.init(
      timestamp: Date(timeIntervalSince1970: metrics.timestamp), cpuPercent: metrics.cpuPercent,
      memoryBytes: metrics.memoryUsed, memoryTotalBytes: metrics.memoryTotal, diskBytes: metrics.diskUsed,
      diskTotalBytes: metrics.diskTotal)
  }
}
