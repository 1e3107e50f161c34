import Hummingbird
import Logging

// The floor of every request: a Hummingbird server with one route that does nothing and no middleware.
//
// usage: empty-server PORT

guard CommandLine.arguments.count == 2, let port = Int(CommandLine.arguments[1]) else { fatalError("usage: empty-server PORT") }
let router = Router()
router.get("/") { _, _ in Response(status: .ok) }
var logger = Logger(label: "empty-server")
logger.logLevel = .warning
try await Application(router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)), logger: logger)
  .runService()
