import Foundation
import Model
import Persistence
import Testing

@Suite struct HostRepositoryTests {
  private static let moment = Date(timeIntervalSince1970: 1_800_000_000.25)
  private let secret = [UInt8](0..<32)

  private func host(_ address: String = "10.0.0.1:4000") -> HostRecord {
    HostRecord(id: HostID(), address: address, secret: secret, registeredAt: Self.moment)
  }

  @Test(
    "a host is stored as it registered, and updated when it registers with another address and secret",
    arguments: SQLDialect.allCases)
  func register(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = HostRepository(database: database)
      let (first, second) = (host(), host("[::1]:5000"))
      #expect(try await repository.host(first.id) == nil)
      try await repository.register(first)
      try await repository.register(second)
      #expect(try await repository.host(first.id) == first)
      #expect(try await repository.all() == [first, second].sorted { $0.id < $1.id })
      var again = first
      again.address = "10.0.0.1:4001"
      again.secret = [UInt8](repeating: 7, count: 32)
      again.registeredAt = Self.moment + 60
      again.lastHeartbeat = Self.moment + 60
      try await repository.register(again)
      again.registeredAt = Self.moment
      #expect(try await repository.host(first.id) == again)
      #expect(try await repository.all().count == 2)
    }
  }

  @Test(
    "heartbeats and the deletion of a host take effect only with the registered secret", arguments: SQLDialect.allCases)
  func renew(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = HostRepository(database: database)
      let record = host()
      let other = [UInt8](repeating: 1, count: 32)
      #expect(try await !repository.renew(record.id, secret: secret, at: Self.moment))
      try await repository.register(record)
      #expect(try await !repository.renew(record.id, secret: other, at: Self.moment + 30))
      #expect(try await repository.host(record.id)?.lastHeartbeat == Self.moment)
      #expect(try await repository.renew(record.id, secret: secret, at: Self.moment + 30))
      #expect(try await repository.host(record.id)?.lastHeartbeat == Self.moment + 30)
      #expect(try await !repository.delete(record.id, secret: other))
      #expect(try await repository.delete(record.id, secret: secret))
      #expect(try await !repository.delete(record.id, secret: secret))
      #expect(try await repository.all().isEmpty)
    }
  }

  @Test("the database itself refuses a secret of another length", arguments: SQLDialect.allCases)
  func secrets(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      var record = host()
      record.secret = [1, 2, 3]
      await #expect(throws: PersistenceError.self) { try await HostRepository(database: database).register(record) }
    }
  }
}
