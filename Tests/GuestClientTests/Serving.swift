import Hummingbird
import Logging
import NIOCore
import ServiceLifecycle

/// Serves on loopback while `body` runs; `body` gets the port. Shuts down gracefully, and by force when a handler does
/// not end.
func serving<Context: RequestContext, Value: Sendable>(
  _ router: Router<Context>, port: Int = 0, _ body: @escaping @Sendable (Int) async throws -> Value
) async throws -> Value where Context.Source == ApplicationRequestContextSource {
  let (ports, announce) = AsyncStream<Int>.makeStream()
  var logger = Logger(label: "test server")
  logger.logLevel = .critical
  let application = Application(
    router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)),
    onServerRunning: { channel in announce.yield(channel.localAddress?.port ?? 0) }, logger: logger)
  var configuration = ServiceGroupConfiguration(services: [application], logger: logger)
  configuration.maximumGracefulShutdownDuration = .seconds(2)
  let services = ServiceGroup(configuration: configuration)
  async let run: Void = services.run()
  var iterator = ports.makeAsyncIterator()
  let boundPort = await iterator.next() ?? 0
  let result: Result<Value, any Error>
  do {
    result = .success(try await body(boundPort))
  } catch {
    result = .failure(error)
  }
  await services.triggerGracefulShutdown()
  // A forced shutdown is reported as an error. Some tests provoke it.
  try? await run
  return try result.get()
}
