import Connect
import ConnectServer
import Glibc
import Hummingbird
import LinuxSystem
import Logging
import NIOCore

import struct Synchronization.Atomic

@testable import Envd

/// Serves the agent's file routes on a free loopback port while `body` runs. The tests run as root: files are given to
/// the user `user` (uid 1234) of the server's own passwd file, whose home is the temporary directory.
func withFileServer(
  accessToken: String? = nil,
  _ body: @escaping @Sendable (_ port: Int, _ directory: TemporaryDirectory) async throws -> Void
) async throws {
  let directory = try TemporaryDirectory()
  try directory.makeDirectory("home")
  try directory.write("root:x:0:0::/root:/bin/sh\nuser:x:1234:1235::\(directory.path("home")):/bin/sh\n", to: "passwd")
  try directory.write("root:x:0:\nstaff:x:1235:\n", to: "group")
  chown(directory.path("home"), 1234, 1235)
  let state = GuestState(GuestState.Identity(accessToken: accessToken, defaultUser: "user"))
  let router = Router(context: AgentRequestContext.self)
  let users = UserDatabase(passwd: directory.path("passwd"), group: directory.path("group"))
  registerFileRoutes(on: router, connect: ConnectRouter(router), state: state, users: users)
  let (ports, announce) = AsyncStream.makeStream(of: Int.self)
  let application = Application(
    router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)),
    onServerRunning: { channel in announce.yield(channel.localAddress?.port ?? 0) },
    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await application.run() }
    var iterator = ports.makeAsyncIterator()
    guard let port = await iterator.next() else { return }
    let result = await Result { try await body(port, directory) }
    group.cancelAll()
    try? await group.waitForAll()
    try result.get()
  }
}

extension Result where Failure == any Error {
  init(_ body: () async throws -> Success) async {
    do {
      self = .success(try await body())
    } catch {
      self = .failure(error)
    }
  }
}

/// The response that curl(1) has received.
struct CurlResponse: Sendable {
  let status: Int
  /// Lower-case header lines.
  let head: String
  let body: [UInt8]

  var text: String { String(decoding: body, as: UTF8.self) }
}

/// Sends requests with curl, an independent HTTP implementation.
enum Curl {
  private static let count = Atomic<Int>(0)

  static func run(_ directory: TemporaryDirectory, _ arguments: [String]) async throws -> CurlResponse {
    let number = count.add(1, ordering: .relaxed).newValue
    let head = directory.path("head-\(number)")
    let body = directory.path("body-\(number)")
    let common = ["-s", "-m", "60", "-D", head, "-o", body, "-w", "%{http_code}", "-H", "Expect:"]
    let output = try await Tool.run("curl", common + arguments, deadline: .seconds(90))
    let content = access(body, F_OK) == 0 ? try SmallFile.read(body) : []
    let headText = (try? SmallFile.readText(head)) ?? ""
    unlink(body)
    unlink(head)
    return CurlResponse(status: Int(output.outputText) ?? 0, head: headText.lowercased(), body: content)
  }
}
