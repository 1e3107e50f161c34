import Glibc
import Hummingbird
import Logging
import NIOCore

// The floor of every request: a Hummingbird server without middleware, with one route that does nothing and one that
// sends prepared bytes.
//
// usage: empty-server PORT

guard CommandLine.arguments.count == 2, let port = Int(CommandLine.arguments[1]) else {
  let usage = Array("usage: empty-server PORT\n".utf8)
  _ = write(STDERR_FILENO, usage, usage.count)
  exit(64)
}
let router = Router()
router.get("/") { _, _ in Response(status: .ok) }
let bytes = ByteBuffer(repeating: UInt8(ascii: "x"), count: 1 << 20)
router.get("/bytes/:count") { _, context in
  guard let count = context.parameters.get("count", as: Int.self), let body = bytes.getSlice(at: 0, length: count)
  else {
    return Response(status: .notFound)
  }
  return Response(status: .ok, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: body))
}
var logger = Logger(label: "empty-server")
logger.logLevel = .warning
try await Application(
  router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)), logger: logger
)
.runService()
