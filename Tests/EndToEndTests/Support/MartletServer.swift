import AsyncHTTPClient
import Concurrency
import Foundation
import Glibc
import LinuxSystem
import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import SystemPackage
import TestSupport

/// A real server, the release binary, on a data directory and a port of its own.
final class MartletServer: Sendable {
  @TaskLocal static var current: MartletServer?

  static let repository = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
    .removingLastComponent()
  static let binary = repository.appending("bin/martlet").string
  static let imageDirectory = ProcessInfo.processInfo.environment["MARTLET_IMAGE_DIR"] ?? "/var/lib/martlet/images"
  /// Prefix of the names of all files of these tests' servers.
  static let directoryPrefix = "/var/tmp/martlet-e2e-"
  private static let startDeadline: Duration = .seconds(60)

  let directory: FilePath
  let port: Int
  let executable: String
  let environment: [String: String]
  /// Directory with the credentials of the clients: with several servers on one database, that of the first server.
  let accountDirectory: FilePath
  private let child = Mutex<ChildProcess?>(nil)

  private init(
    directory: FilePath, port: Int, executable: String, environment: [String: String], accountDirectory: FilePath?
  ) {
    self.directory = directory
    self.accountDirectory = accountDirectory ?? directory
    self.port = port
    self.executable = executable
    self.environment = environment
  }

  var url: String { "http://127.0.0.1:\(port)" }
  var pid: Int32 { child.withLock { $0?.pid ?? -1 } }
  var logPath: FilePath { directory.appending("server.log") }

  /// A server on a fresh data directory; `stop()` removes it.
  /// - Parameter first: another server on the same database, whose credentials the clients use.
  static func start(
    executable: String = binary, environment: [String: String] = [:], port: Int? = nil, awaitingHealth: Bool = true,
    accountOf first: MartletServer? = nil
  ) async throws -> MartletServer {
    guard access(binary, X_OK) == 0 else { throw TestFailure("bin/martlet is not built; run make test") }
    let directory = FilePath("\(directoryPrefix)\(UUID().uuidString.prefix(8).lowercased())")
    try Directories.create(directory)
    let server = MartletServer(
      directory: directory, port: try port ?? freePort(), executable: executable, environment: environment,
      accountDirectory: first?.accountDirectory)
    try await server.launch(awaitingHealth: awaitingHealth)
    return server
  }

  /// Starts the process (again) and waits until it is healthy.
  func launch(
    environment extra: [String: String] = [:], arguments: [String] = [], awaitingHealth: Bool = true
  ) async throws {
    let log = try OwnedDescriptor.open(logPath.string, O_WRONLY | O_APPEND | O_CREAT, mode: 0o600)
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    var spawn = SpawnRequest(
      executable: executable,
      arguments: [
        "up", "--listen", "127.0.0.1:\(port)", "--data-dir", directory.appending("data").string, "--image-dir",
        Self.imageDirectory,
        "--no-demo",
      ] + arguments,
      // Without a warm pool, whose microVMs a census would count as leaks.
      environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "MARTLET_WARM_POOL": "0"].merging(
        environment
      ) { $1 }.merging(
        extra
      ) { $1 },
      workingDirectory: directory.string, descriptors: [0: null.rawValue, 1: log.rawValue, 2: log.rawValue])
    spawn.createsSession = true
    let process = try ChildProcess.spawn(spawn)
    child.withLock { $0 = process }
    guard awaitingHealth else { return }
    try await eventually("the server responds", within: Self.startDeadline) { [self] in
      if let status = process.reapIfEnded() { throw TestFailure("the server ended with \(status): \(logTail)") }
      return (try? await self.request(.GET, "/health"))?.status == 200
    }
  }

  var logTail: String { String(((try? SmallFile.readText(logPath.string)) ?? "").suffix(4_000)) }

  /// Kills the process without clean-up.
  func killHard() async {
    guard let process = child.withLock({ $0 }) else { return }
    process.signal(SIGKILL)
    _ = await process.wait()
    child.withLock { $0 = nil }
  }

  /// Waits until the process has exited.
  func awaitEnd() async -> ExitStatus? {
    guard let process = child.withLock({ $0 }) else { return nil }
    defer { child.withLock { $0 = nil } }
    return await process.wait()
  }

  /// Destroys all sandboxes, stops the process and removes the directory.
  func stop() async throws {
    if child.withLock({ $0 == nil }) { try await launch() }
    try await cli("kill", "--all").expectSuccess()
    await terminate()
    try removeDirectory()
  }

  /// Sends SIGTERM, as a service manager does, and waits for the exit. Sandboxes continue to run.
  @discardableResult
  func terminate() async -> ExitStatus? {
    child.withLock { $0 }?.signal(SIGTERM)
    return await awaitEnd()
  }

  func removeDirectory() throws {
    try Directories.removeTree(directory)
  }

  var apiKey: String {
    get throws {
      struct Credentials: Decodable { let api_key: String }
      let bytes = try SmallFile.read(accountDirectory.appending("data/credentials.json").string)
      return try JSONDecoder().decode(Credentials.self, from: Data(bytes)).api_key
    }
  }

  // MARK: - Clients

  @discardableResult
  func cli(_ arguments: String..., input: String? = nil, deadline: Duration = .seconds(180)) async throws -> ToolOutput
  {
    try await cli(arguments, input: input, deadline: deadline)
  }

  func cli(_ arguments: [String], input: String? = nil, deadline: Duration = .seconds(180)) async throws -> ToolOutput {
    try await Tool.run(
      Self.binary, arguments, environment: clientEnvironment, input: input, deadline: deadline, outputLimit: 64 << 20)
  }

  var clientEnvironment: [String: String] {
    var environment = [
      "PATH": "/usr/bin:/bin", "HOME": "/root", "MARTLET_DATA_DIR": directory.appending("data").string,
      "MARTLET_URL": url,
    ]
    // With several servers on one database only the first has credentials in its directory.
    if accountDirectory != directory { environment["MARTLET_API_KEY"] = try? apiKey }
    return environment
  }

  struct Response: Sendable {
    let status: Int
    let body: Data

    var json: [String: Any] { (try? JSONSerialization.jsonObject(with: body) as? [String: Any]) ?? [:] }
    var text: String { String(decoding: body, as: UTF8.self) }
    var errorCode: String? { (json["error"] as? [String: Any])?["code"] as? String }
    var errorMessage: String? { (json["error"] as? [String: Any])?["message"] as? String }
  }

  enum Method: String { case GET, POST, DELETE, PUT, PATCH }

  /// Sends a request with the API key.
  func request(
    _ method: Method, _ path: String, body: String? = nil, headers: [String: String] = [:], authenticated: Bool = true,
    deadline: TimeAmount = .seconds(180)
  ) async throws -> Response {
    var request = HTTPClientRequest(url: url + path)
    request.method = .init(rawValue: method.rawValue)
    if authenticated, let key = try? apiKey { request.headers.add(name: "X-API-Key", value: key) }
    if let body {
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(string: body))
    }
    for (name, value) in headers { request.headers.replaceOrAdd(name: name, value: value) }
    let response = try await HTTPClient.shared.execute(request, timeout: deadline)
    let content = try await response.body.collect(upTo: 64 << 20)
    return Response(status: Int(response.status.code), body: Data(buffer: content))
  }

  /// Creates a sandbox and returns its id.
  func createSandbox(_ arguments: String...) async throws -> String {
    let output = try await cli(["create", "--json"] + arguments)
    try output.expectSuccess()
    struct Sandbox: Decodable { let id: String }
    return try JSONDecoder().decode(Sandbox.self, from: Data(output.standardOutput)).id
  }

  /// Runs a shell command in a sandbox and returns its standard output; throws if the command fails.
  func shell(_ id: String, _ command: String) async throws -> String {
    let output = try await cli("exec", id, "--", "sh", "-c", command)
    try output.expectSuccess()
    return output.outputText
  }

  func info(_ id: String) async throws -> [String: Any] {
    try await request(.GET, "/v1/sandboxes/\(id)").json
  }

  private static func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw TestFailure("no socket") }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard bound else { throw TestFailure("no free port") }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}

struct TestFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}

/// Waits on a predicate; nothing in these tests waits on time alone.
/// - Parameter limit: on an idle machine; a loaded one gets more (`Patience`).
func eventually(
  _ what: String, within limit: Duration = .seconds(30), _ predicate: @Sendable () async throws -> Bool
) async throws {
  guard try await Patience.waiting(for: limit, every: .milliseconds(50), until: predicate) else {
    throw TestFailure("not true within \(limit) of an idle machine: \(what)")
  }
}

extension ToolOutput {
  func expectSuccess() throws {
    guard isSuccess else { throw TestFailure("\(executable) \(status): \(errorText)\(outputText.suffix(500))") }
  }
}
