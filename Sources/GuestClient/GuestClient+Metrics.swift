import AsyncHTTPClient
import Foundation
package import HostAPI
import Model
import NIOCore
import NIOHTTP1

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
