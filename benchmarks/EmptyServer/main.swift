import Glibc
import Hummingbird
import Logging

// The floor of every request: a Hummingbird server with one route that does nothing and no middleware.
//
// usage: empty-server PORT

guard CommandLine.arguments.count == 2, let port = Int(CommandLine.arguments[1]) else {
  let usage = Array("usage: empty-server PORT\n".utf8)
  _ = write(STDERR_FILENO, usage, usage.count)
  exit(64)
}
let router = Router()
router.get("/") { _, _ in Response(status: .ok) }
var logger = Logger(label: "empty-server")
logger.logLevel = .warning
try await Application(router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)), logger: logger)
  .runService()
