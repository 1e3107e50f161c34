import ControlPlane
import HTTPTypes
import Hummingbird
import NIOCore

/// `GET /metrics`: what the control plane counts, for Prometheus (OPS-2). There is nothing of a tenant in it, but
/// much about how busy the platform is.
struct MetricsRoute {
  let metrics: PlaneMetrics

  func register(_ routes: RouteRegistrar) {
    routes.get("/metrics") { _, _ in
      Response(
        status: .ok, headers: [.contentType: PlaneMetrics.contentType],
        body: ResponseBody(byteBuffer: ByteBuffer(string: try await metrics.text())))
    }
  }
}
