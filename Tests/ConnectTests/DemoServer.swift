import AsyncHTTPClient
import Concurrency
import Connect
import ConnectClient
import ConnectServer
import Hummingbird
import NIOCore
import SwiftProtobuf

/// A Connect server on loopback with one method of each kind.
struct DemoServer {
  static let service = "demo.Demo"

  let port: Int
  let observations: Observations

  /// Counters of handler events.
  final class Observations: Sendable {
    let cancelled = Mutex(0)
    let written = Mutex(0)
    let received = Mutex(0)
  }

  var url: String { "http://127.0.0.1:\(port)" }

  func client(_ codec: ConnectCodec) -> ConnectClient {
    ConnectClient(baseURL: url, httpClient: .shared, codec: codec)
  }

  @discardableResult
  static func run<Value: Sendable>(
    limits: ConnectLimits = ConnectLimits(), _ body: @escaping @Sendable (DemoServer) async throws -> Value
  ) async throws -> Value {
    let observations = Observations()
    let router = Router(context: BasicConnectRequestContext.self)
    register(on: ConnectRouter(router, limits: limits), observations)
    return try await serving(router) { port in try await body(DemoServer(port: port, observations: observations)) }
  }

  private static func register(on router: ConnectRouter<BasicConnectRequestContext>, _ observations: Observations) {
    router.unary(service, "Echo") { (request: Google_Protobuf_StringValue, context) -> Google_Protobuf_StringValue in
      try await respond(to: request.value, context)
    }
    router.unary(service, "Peer") { (_: Google_Protobuf_Empty, context) in
      Google_Protobuf_StringValue("\(context.remoteAddress?.port ?? 0)")
    }
    router.serverStream(service, "Count") {
      (request: Google_Protobuf_Int32Value, _, writer: ConnectWriter<Google_Protobuf_Int32Value>) in
      for number in 0..<max(0, request.value) { try await writer.write(Google_Protobuf_Int32Value(number)) }
      if request.value < 0 {
        try await writer.write(Google_Protobuf_Int32Value(0))
        throw ConnectError(.outOfRange, "cannot count to \(request.value)")
      }
    }
    router.serverStream(service, "Idle") {
      (_: Google_Protobuf_Empty, _, writer: ConnectWriter<Google_Protobuf_StringValue>) in
      defer { observations.cancelled.withLock { $0 += 1 } }
      try await writer.write(Google_Protobuf_StringValue("first"))
      observations.written.withLock { $0 += 1 }
      try await Task.sleep(for: .seconds(60))
    }
    router.serverStream(service, "Flood") {
      (_: Google_Protobuf_Empty, _, writer: ConnectWriter<Google_Protobuf_BytesValue>) in
      let message = Google_Protobuf_BytesValue(.init(repeating: 7, count: 65_536))
      defer { observations.cancelled.withLock { $0 += 1 } }
      while true {
        try await writer.write(message)
        observations.written.withLock { $0 += 1 }
      }
    }
    router.clientStream(service, "Join") { (requests: ConnectRequests<Google_Protobuf_StringValue>, _) in
      var joined = ""
      for try await request in requests {
        joined += request.value
        observations.received.withLock { $0 += 1 }
      }
      return Google_Protobuf_StringValue(joined)
    }
    router.bidirectionalStream(service, "Upper") {
      (requests: ConnectRequests<Google_Protobuf_StringValue>, _, writer: ConnectWriter<Google_Protobuf_StringValue>) in
      for try await request in requests {
        try await writer.write(Google_Protobuf_StringValue(request.value.uppercased()))
      }
    }
  }

  private static func respond(to text: String, _ context: ConnectContext) async throws -> Google_Protobuf_StringValue {
    if text == "sleep" { try await Task.sleep(for: .seconds(60)) }
    if text == "crash" { throw Crash() }
    if text == "deadline" { return Google_Protobuf_StringValue(context.deadline == nil ? "none" : "some") }
    if let code = ConnectCode(rawValue: text) { throw ConnectError(code, "as requested") }
    return Google_Protobuf_StringValue(text)
  }

  private struct Crash: Error {}
}

/// Polls until `condition` holds, for 5 s at most.
func eventually(_ condition: () async -> Bool) async -> Bool {
  for _ in 0..<500 {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(10))
  }
  return false
}
