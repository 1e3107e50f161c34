import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Older backups, wrong, empty and forgotten databases, second servers: real servers and microVMs. Nothing is destroyed
/// that was not deleted.
@Suite(.serialized) struct WrongDatabaseTests {
  private static let secret = ["MARTLET_JWT_SECRET": String(repeating: "secret of all control planes ", count: 2)]
  private static let counting =
    "i=0; while true; do i=$((i+1)); echo $$ $i > /dev/shm/n; mv /dev/shm/n /dev/shm/count; sleep 0.1; done"

  // MARK: - Older backups

  @Test("after an older SQLite file was restored, later sandboxes and snapshots are adopted and go on where they were")
  func olderFile() async throws {
    let server = try await MartletServer.start()
    try await cleaningUp(server) {
      let data = server.directory.appending("data").string
      try await olderBackup(
        server,
        backup: {
          // A running server's file is copied with its log; `VACUUM INTO` of the tools would do as well.
          for file in ["martlet.db", "martlet.db-wal"] { try copy("\(data)/\(file)", "\(data)/backup-\(file)") }
        },
        restore: {
          for file in ["martlet.db", "martlet.db-wal", "martlet.db-shm"] { unlink("\(data)/\(file)") }
          for file in ["martlet.db", "martlet.db-wal"] { try copy("\(data)/backup-\(file)", "\(data)/\(file)") }
          return [:]
        })
    }
  }

  @Test("after an older PostgreSQL dump was restored, later sandboxes and snapshots are adopted and go on")
  func olderDump() async throws {
    let postgres = try await PrivatePostgres.start()
    let name = try await postgres.makeDatabase()
    let environment = Self.secret.merging(["DATABASE_URL": postgres.url(database: name)]) { $1 }
    let server = try await MartletServer.start(environment: environment)
    let dump = Holder()
    try await cleaningUp(server) {
      try await olderBackup(
        server, backup: { dump.value = try await postgres.dump(name) },
        restore: {
          let restored = try await postgres.makeDatabase()
          try await postgres.restore(dump.value, into: restored)
          return ["DATABASE_URL": postgres.url(database: restored)]
        })
    }
    await postgres.stop()
  }

  private final class Holder: @unchecked Sendable {
    var value = ""
  }

  private func olderBackup(
    _ server: MartletServer, backup: () async throws -> Void, restore: () async throws -> [String: String]
  ) async throws {
    let credentials = try SmallFile.read(server.directory.appending("data/credentials.json").string)
    let (kept, destroyed) = (try await counter(server), try await server.createSandbox("--memory", "256"))
    await server.terminate()
    try await backup()
    try await server.launch()
    let later = try await counter(server)
    let laterPaused = try await counter(server)
    try await server.pause(laterPaused)
    let made = try await server.request(.POST, "/v1/snapshots", body: #"{"sandbox_id":"\#(later)","name":"golden"}"#)
    #expect(made.status == 201, "\(made.text)")
    try await server.cli("kill", destroyed).expectSuccess()
    let before = try await counts(server, later)
    await server.terminate()
    let environment = try await restore()
    try await server.launch(environment: environment)

    try await eventually("all of it is in quarantine, paused", within: .seconds(150)) {
      let items = try await quarantine(server)
      return items.count == 3 && items.allSatisfy { $0.status ?? "paused" == "paused" }
    }
    #expect(Set(try await quarantine(server).map(\.id)).isSuperset(of: [later, laterPaused]))
    #expect(try await server.status(later) == "none")
    #expect(try await server.settled(kept) == "running")
    #expect(try await goesOn(server, kept))
    try await eventually("the destroyed one is lost, and says so") { try await server.status(destroyed) == "stopped" }
    for item in try await quarantine(server) { try await server.cli("quarantine", "adopt", item.id).expectSuccess() }
    #expect(try await quarantine(server).isEmpty)
    for id in [later, laterPaused] {
      #expect(try await server.settled(id) == "paused")
      try await server.resume(id)
      #expect(try await goesOn(server, id))
    }
    let after = try await counts(server, later)
    #expect(after.pid == before.pid && after.count > before.count, "the same process, further on")
    let copy = try await server.createSandbox("--template", "golden")
    #expect(try await goesOn(server, copy))
    #expect(try SmallFile.read(server.directory.appending("data/credentials.json").string) == credentials)
  }

  // MARK: - Wrong databases

  @Test("a missing, an empty and a foreign database, and a forgotten DATABASE_URL: the server does not start")
  func wrongDatabases() async throws {
    let postgres = try await PrivatePostgres.start()
    let server = try await MartletServer.start()
    try await cleaningUp(server) {
      let data = server.directory.appending("data").string
      let id = try await counter(server)
      let machines = server.machines
      let credentials = try SmallFile.read("\(data)/credentials.json")
      await server.terminate()
      let other = try await postgres.makeDatabase()
      let foreign = try await MartletServer.start(
        environment: Self.secret.merging(["DATABASE_URL": postgres.url(database: other)]) { $1 })
      await foreign.terminate()
      try foreign.removeDirectory()

      func expectRefusal(_ what: String, _ environment: [String: String] = [:]) async throws {
        try await server.launch(environment: environment, awaitingHealth: false)
        #expect(await server.awaitEnd() == .exited(78), "\(what)")
        #expect(server.logTail.contains("nothing was changed"), "\(what): \(server.logTail)")
        #expect(server.logTail.contains("martlet up --adopt"), "\(what)")
        #expect(server.machines == machines, "\(what)")
        #expect(try SmallFile.read("\(data)/credentials.json") == credentials, "\(what)")
      }
      let empty = postgres.url(database: try await postgres.makeDatabase())
      try await expectRefusal("an empty PostgreSQL", Self.secret.merging(["DATABASE_URL": empty]) { $1 })
      let url = postgres.url(database: other)
      try await expectRefusal("another installation's", Self.secret.merging(["DATABASE_URL": url]) { $1 })
      for file in ["martlet.db", "martlet.db-wal"] where access("\(data)/\(file)", F_OK) == 0 {
        #expect(rename("\(data)/\(file)", "\(data)/kept-\(file)") == 0)
      }
      try await expectRefusal("no file")
      #expect(access("\(data)/martlet.db", F_OK) != 0, "none is made")
      try SmallFile.replace(FilePath("\(data)/martlet.db"), with: [], mode: 0o600)
      try await expectRefusal("a file of 0 bytes")
      unlink("\(data)/martlet.db")
      for file in ["martlet.db", "martlet.db-wal"] where access("\(data)/kept-\(file)", F_OK) == 0 {
        #expect(rename("\(data)/kept-\(file)", "\(data)/\(file)") == 0)
      }
      try await server.launch()
      #expect(server.machines == machines)
      #expect(try await goesOn(server, id))
    }
    await postgres.stop()
  }

  @Test("DATABASE_URL forgotten once costs nothing; with --adopt a host comes into an empty database, and all is there")
  func forgottenAndAdopted() async throws {
    let postgres = try await PrivatePostgres.start()
    let url = postgres.url(database: try await postgres.makeDatabase())
    let server = try await MartletServer.start(environment: Self.secret.merging(["DATABASE_URL": url]) { $1 })
    try await cleaningUp(server) {
      let data = server.directory.appending("data").string
      let id = try await counter(server)
      let machines = server.machines
      let credentials = try SmallFile.read("\(data)/credentials.json")
      let before = try await counts(server, id)
      await server.terminate()
      try await server.launch(environment: ["DATABASE_URL": ""], awaitingHealth: false)
      #expect(await server.awaitEnd() == .exited(78))
      #expect(server.logTail.contains("holds 1 sandboxes and snapshots"), "\(server.logTail)")
      #expect(access("\(data)/martlet.db", F_OK) != 0 && server.machines == machines)
      try await server.launch()
      #expect(try await goesOn(server, id) && server.machines == machines)
      await server.terminate()

      let other = postgres.url(database: try await postgres.makeDatabase())
      try await server.launch(environment: ["DATABASE_URL": other], arguments: ["--adopt"])
      #expect(try SmallFile.read("\(data)/credentials.json") == credentials)
      let login = try await logIn(server)
      try await eventually("it is in quarantine", within: .seconds(150)) {
        let items = try await server.request(
          .GET, "/v1/admin/quarantine", headers: login.headers, authenticated: false)
        return items.text.contains(id) && items.text.contains("\"paused\"")
      }
      let adopted = try await server.request(
        .POST, "/v1/admin/quarantine/\(id)/adopt", body: #"{"team_id":"\#(login.team)"}"#, headers: login.headers,
        authenticated: false)
      #expect(adopted.status == 200, "\(adopted.text)")
      let resumed = try await server.request(
        .POST, "/v1/sandboxes/\(id)/resume", headers: login.headers, authenticated: false)
      #expect(resumed.status == 200, "\(resumed.text)")
      let output = try await server.request(
        .POST, "/v1/sandboxes/\(id)/exec", body: #"{"cmd":"cat","args":["/dev/shm/count"]}"#, headers: login.headers,
        authenticated: false)
      let fields = (output.json["stdout"] as? String ?? "").split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
      #expect(fields.first == before.pid && fields.last ?? 0 >= before.count, "\(output.text)")
      // The host belongs to the new database now, and the old one is refused.
      await server.terminate()
      try await server.launch(awaitingHealth: false)
      #expect(await server.awaitEnd() == .exited(78))
      try await server.launch(arguments: ["--adopt"])
    }
    await postgres.stop()
  }

  // MARK: - Two servers

  @Test("a second server on the data directory, through a link or a bind mount, is refused and named the first")
  func secondServer() async throws {
    let server = try await MartletServer.start()
    try await cleaningUp(server) {
      let id = try await counter(server)
      let (machines, generations) = (server.machines, server.stored("generations"))
      let data = server.directory.appending("data").string
      let (link, mount) = ("\(server.directory)/link", "\(server.directory)/mount")
      #expect(symlink(data, link) == 0)
      try Directories.create(FilePath(mount))
      _ = try await Tool.run("mount", ["--bind", data, mount], deadline: .seconds(10)).checked()
      for path in [data, link, mount] {
        let output = try await Tool.run(
          MartletServer.binary,
          [
            "up", "--listen", "127.0.0.1:0", "--data-dir", path, "--image-dir", MartletServer.imageDirectory,
            "--no-demo",
          ],
          environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"], deadline: .seconds(60))
        #expect(!output.isSuccess && output.errorText.contains("process \(server.pid)"), "\(path): \(output.errorText)")
      }
      _ = try await Tool.run("umount", [mount], deadline: .seconds(10)).checked()
      #expect(server.machines == machines && server.stored("generations") == generations)
      #expect(try await goesOn(server, id))
      // A server that comes through the link after the first has its number and its sandboxes.
      await server.terminate()
    }
  }

  @Test("of two servers on one PostgreSQL, one that comes with another installation's data directory is refused")
  func foreignServer() async throws {
    let postgres = try await PrivatePostgres.start()
    let urls = [
      postgres.url(database: try await postgres.makeDatabase()),
      postgres.url(database: try await postgres.makeDatabase()),
    ]
    let first = try await MartletServer.start(environment: Self.secret.merging(["DATABASE_URL": urls[0]]) { $1 })
    try await cleaningUp(first) {
      let second = try await MartletServer.start(environment: Self.secret.merging(["DATABASE_URL": urls[1]]) { $1 })
      try await cleaningUp(second) {
        let (mine, theirs) = (try await counter(first), try await counter(second))
        let machines = second.machines
        await second.terminate()
        try await second.launch(environment: ["DATABASE_URL": urls[0]], awaitingHealth: false)
        #expect(await second.awaitEnd() == .exited(78))
        #expect(second.machines == machines)
        #expect(try await goesOn(first, mine))
        try await second.launch()
        #expect(second.machines == machines)
        #expect(try await goesOn(second, theirs))
      }
    }
    await postgres.stop()
  }

  // MARK: - Helpers

  private struct Quarantined: Decodable {
    let id: String
    let type: String
    let status: String?
  }

  private func quarantine(_ server: MartletServer) async throws -> [Quarantined] {
    let output = try await server.cli("quarantine", "ls", "--json")
    try output.expectSuccess()
    return try JSONDecoder().decode([Quarantined].self, from: Data(output.standardOutput))
  }

  /// As the administrator whose credentials were written beside those of the former database.
  private func logIn(_ server: MartletServer) async throws -> (headers: [String: String], team: String) {
    let data = server.directory.appending("data")
    let name = try #require(try Directories.names(in: data).first { $0.hasPrefix("credentials-") })
    let file = try jsonObject(try SmallFile.read(data.appending(name).string))
    let (email, password) = (file["admin_email"] as? String ?? "", file["admin_password"] as? String ?? "")
    let session = try await server.request(
      .POST, "/v1/auth/login", body: #"{"email":"\#(email)","password":"\#(password)"}"#, authenticated: false)
    let token = try #require(session.json["token"] as? String, "\(session.text)")
    return (["Authorization": "Bearer \(token)"], try #require(session.json["team_id"] as? String))
  }

  /// A sandbox with a process that counts in memory.
  private func counter(_ server: MartletServer) async throws -> String {
    let id = try await server.createSandbox("--memory", "256")
    try await server.cli("exec", "--detach", id, "--", "sh", "-c", Self.counting).expectSuccess()
    try await eventually("it counts") { try await server.cli("exec", id, "--", "cat", "/dev/shm/count").isSuccess }
    return id
  }

  private func counts(_ server: MartletServer, _ id: String) async throws -> (pid: Int, count: Int) {
    let fields = try await server.shell(id, "cat /dev/shm/count").split(whereSeparator: \.isWhitespace).compactMap {
      Int($0)
    }
    return (fields.first ?? 0, fields.last ?? 0)
  }

  private func goesOn(_ server: MartletServer, _ id: String) async throws -> Bool {
    let first = try await counts(server, id)
    try await eventually("\(id) counts on") { try await counts(server, id).count > first.count }
    return try await counts(server, id).pid == first.pid
  }

  private func copy(_ source: String, _ destination: String) throws {
    guard access(source, F_OK) == 0 else { return }
    try SmallFile.replace(FilePath(destination), with: try SmallFile.read(source), mode: 0o600)
  }

  /// Whatever happens, neither the server nor its microVMs are left.
  private func cleaningUp(_ server: MartletServer, _ body: () async throws -> Void) async throws {
    let outcome: Result<Void, any Error>
    do {
      outcome = .success(try await body())
    } catch {
      outcome = .failure(TestFailure("\(error); the server said: \(server.logTail)"))
    }
    await server.terminate()
    for pid in server.machines + server.pagers { kill(pid, SIGKILL) }
    try? server.removeDirectory()
    try outcome.get()
  }
}
