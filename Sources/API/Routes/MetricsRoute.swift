import ControlPlane
import HTTPTypes
import Hummingbird
import NIOCore

/// `GET /metrics`: the control plane's metrics, for Prometheus. They contain no tenant data, but they show the load of
/// the platform.
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
