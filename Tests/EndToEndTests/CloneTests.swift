import AsyncHTTPClient
import Foundation
import LinuxSystem
import NIOCore
import NIOHTTP1
import SystemPackage
import Testing

/// Sandboxes created from one snapshot have different identities and the present time.
@Suite(.serialized) struct CloneTests {
  private static let count = 10
  private static let together = 3

  @Test(
    "ten clones run the snapshot's processes with different names, ids, random numbers and tokens, and the right time"
  )
  func clones() async throws {
    let server = try await MartletServer.start()
    let source = try await Workload.begin(server)
    let before = try await Workload.check(server, source)
    try await server.cli("snapshot", "create", source, "--name", "frozen").expectSuccess()
    let frozenAt = Date()
    #expect(try await Workload.check(server, source).asked == before.asked + 1, "the source runs on")
    // Wait long enough that a clock that was not set is wrong by more than the tolerance.
    try await eventually("the snapshot is old") { Date().timeIntervalSince(frozenAt) > 3 }
    let authority = try await Authority.make(in: server.directory)

    var living: [String] = []
    var identities: [String: Set<String>] = [:]
    for _ in 0..<Self.count {
      let clone = try await server.createSandbox("--template", "frozen")
      living.append(clone)
      try await expectPresent(server, clone, before)
      let script = "head -c 16 /dev/urandom | od -An -tx1; hostname; cat /etc/machine-id"
      let lines = try await server.shell(clone, script).split(separator: "\n").map(String.init)
      for (name, value) in zip(["random", "hostname", "machine"], lines) { identities[name, default: []].insert(value) }
      identities["token", default: []].insert(try await ownToken(server, source, clone))
      // Running all clones at once would overload a small machine.
      if living.count > Self.together { try await server.cli("kill", living.removeFirst()).expectSuccess() }
    }
    #expect(identities.count == 4 && identities.values.allSatisfy { $0.count == Self.count }, "\(identities)")
    try await authority.expectTrusted(server, try #require(living.first))

    try await server.cli("snapshot", "rm", "frozen").expectSuccess()
    let response = try await server.request(.POST, "/v1/sandboxes", body: #"{"template":"frozen"}"#)
    #expect(response.status == 404)
    try await server.stop()
  }

  @Test(
    "a running sandbox and all its processes have the right time after every snapshot"
  )
  func clockOfSource() async throws {
    let server = try await MartletServer.start()
    let source = try await Workload.begin(server)
    let before = try await Workload.check(server, source)
    var jump = 0.0
    // Repeat until the guest was stopped for much longer than the tolerance of the clock.
    for _ in 0..<60 where jump < 0.4 {
      let body = #"{"sandbox_id":"\#(source)","name":"again"}"#
      let response = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      guard response.status == 201 else { throw TestFailure("snapshot: \(response.status) \(response.text)") }
      let begin = Date().timeIntervalSince1970
      let now = try await Workload.check(server, source)
      let end = Date().timeIntervalSince1970
      #expect(now.wall > begin - 0.05 && now.wall < end + 0.05, "the clock is wrong: \(begin) \(now.wall) \(end)")
      jump = now.offset - before.offset
    }
    #expect(jump >= 0.4, "its clock moved on by what its other clocks missed")
    try await server.stop()
  }

  /// The clone's process continues, and the first time that it read was right within 50 ms.
  private func expectPresent(_ server: MartletServer, _ clone: String, _ before: Workload.State) async throws {
    let begin = Date().timeIntervalSince1970
    let now = try await Workload.check(server, clone)
    let end = Date().timeIntervalSince1970
    #expect(now.asked == before.asked + 1 && now.counter >= before.counter)
    #expect(now.wall > begin - 0.05 && now.wall < end + 0.05, "the clock is wrong: \(begin) \(now.wall) \(end)")
    // The clock jumped once since the snapshot, to the present: no process ran with another time.
    let jumps = now.offsets.dropFirst(before.offsets.count)
    #expect(
      jumps.count == 1 && jumps.allSatisfy { abs($0 - now.offset) < 0.05 },
      "\(before.offsets) \(now.offsets) \(now.offset)")
  }

  /// The guest agent accepts its own token and no other.
  private func ownToken(_ server: MartletServer, _ source: String, _ clone: String) async throws -> String {
    let tokens = try await server.accessTokens()
    let (own, others) = (try #require(tokens[clone]), try #require(tokens[source]))
    #expect(own != others)
    let address = try #require(try await server.info(clone)["host_ip"] as? String)
    #expect(try await Self.metrics(of: address, own) == 200)
    #expect(try await Self.metrics(of: address, others) == 401)
    return own
  }

  private static func metrics(of address: String, _ token: String) async throws -> UInt {
    var request = HTTPClientRequest(url: "http://\(address):49983/metrics")
    request.headers.add(name: "X-Access-Token", value: token)
    return try await HTTPClient.shared.execute(request, timeout: .seconds(30)).status.code
  }
}

extension MartletServer {
  /// Tokens of the guest agents by sandbox, from the journal, which only root can read.
  fileprivate func accessTokens() async throws -> [String: String] {
    let script = """
      import json, sqlite3, sys
      rows = sqlite3.connect(sys.argv[1]).execute("SELECT entry FROM sandbox")
      entries = [json.loads(row[0]) for row in rows]
      print(json.dumps({entry["spec"]["id"]: entry["accessToken"] for entry in entries}))
      """
    let output = try await Tool.run("python3", ["-c", script, directory.appending("data/journal.db").string]).checked()
    let entries = try JSONDecoder().decode([String: String].self, from: Data(output.standardOutput))
    // The journal stores ids without the prefix `sb-`.
    let ids = try await sandboxes("running")
    return Dictionary(
      uniqueKeysWithValues: ids.compactMap { id in
        entries.first { $0.key.hasSuffix(id) || id.hasSuffix($0.key) }.map { (id, $0.value) }
      })
  }
}

/// Creates a certificate authority that is valid from now on, and a certificate.
private struct Authority {
  let directory: FilePath

  static func make(in parent: FilePath) async throws -> Authority {
    let directory = parent.appending("tls")
    try Directories.create(directory)
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    let path = { (name: String) in directory.appending(name).string }
    try SmallFile.replace(
      directory.appending("names"), with: Array("subjectAltName=DNS:service.test\n".utf8), mode: 0o600)
    try await Tool.run(
      "openssl",
      ["req", "-x509"] + key + [
        "-keyout", path("ca.key"), "-out", path("ca.pem"), "-subj", "/CN=Authority", "-days", "2",
      ]
    ).checked()
    try await Tool.run(
      "openssl", ["req"] + key + ["-keyout", path("leaf.key"), "-out", path("leaf.csr"), "-subj", "/CN=service.test"]
    ).checked()
    try await Tool.run(
      "openssl",
      [
        "x509", "-req", "-in", path("leaf.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial",
        "-days", "2",
        "-extfile", path("names"), "-out", path("leaf.pem"),
      ]
    ).checked()
    return Authority(directory: directory)
  }

  private static let handshake = """
    import socket, ssl, threading
    service = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); service.load_cert_chain("/tmp/leaf.pem", "/tmp/leaf.key")
    client = ssl.create_default_context(cafile="/tmp/ca.pem")
    listener = socket.create_server(("127.0.0.1", 7443))
    def serve():
        with service.wrap_socket(listener.accept()[0], server_side=True) as peer: peer.sendall(b"trusted")
    threading.Thread(target=serve, daemon=True).start()
    with client.wrap_socket(socket.create_connection(("127.0.0.1", 7443)), server_hostname="service.test") as peer:
        print(peer.recv(100).decode())
    """

  /// A guest with a past time would reject the certificate as not yet valid.
  func expectTrusted(_ server: MartletServer, _ id: String) async throws {
    for name in ["ca.pem", "leaf.pem", "leaf.key"] {
      try await server.cli("cp", directory.appending(name).string, "\(id):/tmp/\(name)").expectSuccess()
    }
    let output = try await server.cli("exec", id, "--", "python3", "-c", Self.handshake)
    try output.expectSuccess()
    #expect(output.outputText == "trusted\n")
  }
}
