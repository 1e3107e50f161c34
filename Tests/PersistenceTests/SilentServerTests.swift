import Concurrency
import Foundation
import Glibc
import Logging
import Model
import Persistence
import Testing

@Suite struct SilentServerTests {
  @Test(
    "look-ups that wait for an unresponsive server fail together, not one after the other", .timeLimit(.minutes(2))
  )
  func lookUps() async throws {
    let server = try SilentServer()
    var configuration = try PostgresConfiguration(
      url: "postgres://martlet@127.0.0.1:\(server.port)/martlet?sslmode=disable")
    configuration.patience = .seconds(3)
    configuration.connectTimeoutSeconds = 2
    let database = PostgresDatabase(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let lookUp = { @Sendable in
      await #expect(throws: PersistenceError.self) {
        try await database.lookUp("SELECT name FROM teams WHERE id = ?", [.uuid(UUID())])
      }
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { _ = await lookUp() }
      // The first look-up makes its second attempt; look-ups that arrive now form the next batch.
      while server.connections < 2 { try await Task.sleep(for: .milliseconds(10)) }
      for _ in 0..<32 { group.addTask { _ = await lookUp() } }
      try await group.waitForAll()
    }
    #expect(server.connections < 16)
    try await database.close()
    server.stop()
  }
}

/// A server that accepts connections and sends nothing.
private final class SilentServer: Sendable {
  let port: UInt16
  private let descriptor: Int32
  private let accepted = Mutex([Int32]())

  var connections: Int { accepted.withLock { $0.count } }

  init() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(listener, generic, length) == 0 && listen(listener, 64) == 0
          && getsockname(listener, generic, &length) == 0
      }
    }
    try #require(isBound)
    descriptor = listener
    port = UInt16(bigEndian: address.sin_port)
    Thread.detachNewThread { self.serve() }
  }

  func stop() {
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  private func serve() {
    while case let connection = accept(descriptor, nil, nil), connection >= 0 {
      accepted.withLock { $0.append(connection) }
    }
    for connection in accepted.withLock({ $0 }) { close(connection) }
    close(descriptor)
  }
}
