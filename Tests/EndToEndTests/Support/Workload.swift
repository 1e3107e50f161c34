import Foundation
import LinuxSystem

/// A guest whose state is everywhere: a counting process, files with checksums in memory and on disk, and a Python
/// process with a dictionary, connected to itself, which notes when its clock jumps.
enum Workload {
  /// What the guest says of itself.
  struct State: Decodable {
    /// How often its Python process was asked.
    let asked: Int
    /// Whether the connection, and the dictionary's digest, are what they were.
    let ok: Bool
    /// Its clock, in seconds since 1970.
    let wall: Double
    /// The clock's distance from the time since its boot.
    let offset: Double
    /// All the distances that a user process has ever seen, but for 20 ms.
    let offsets: [Double]
    var counter = 0

    private enum CodingKeys: CodingKey { case asked, ok, wall, offset, offsets }
  }

  private static let script = """
    set -e
    head -c 3000000 /dev/urandom > /dev/shm/memory; sha256sum /dev/shm/memory > /dev/shm/memory.sum
    head -c 3000000 /dev/urandom > /var/tmp/disk; sha256sum /var/tmp/disk > /var/tmp/disk.sum
    cat > /var/tmp/stateful.py <<'END'
    import hashlib, json, os, socket, threading, time
    listener = socket.create_server(("127.0.0.1", 7001))
    state = {i: os.urandom(64) for i in range(2000)}
    digest = hashlib.sha256(b"".join(state.values())).hexdigest()
    mine = socket.create_connection(("127.0.0.1", 7001))
    theirs, _ = listener.accept()
    offsets = []
    asked = 0
    def look():
        while True:
            before = time.monotonic(); wall = time.time(); after = time.monotonic()
            # Else it stood still between the two clocks.
            if after - before < 0.002: return wall, wall - after
    def watch():
        while True:
            offset = look()[1]
            if not offsets or abs(offset - offsets[-1]) > 0.02: offsets.append(offset)
            time.sleep(0.02)
    def echo():
        while True: theirs.sendall(theirs.recv(100))
    for body in watch, echo: threading.Thread(target=body, daemon=True).start()
    doors = socket.create_server(("127.0.0.1", 7002))
    while True:
        caller, _ = doors.accept()
        asked += 1
        mine.sendall(b"ping")
        ok = mine.recv(100) == b"ping" and hashlib.sha256(b"".join(state.values())).hexdigest() == digest
        wall, offset = look()
        caller.sendall(json.dumps({"ok": ok, "asked": asked, "wall": wall, "offset": offset, "offsets": offsets}).encode() + b"\\n")
        caller.close()
    END
    """

  private static let counting =
    "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/count.new; mv /dev/shm/count.new /dev/shm/count; sleep 0.5; done"

  /// Bash asks, as another Python would take long to start.
  private static let question = """
    sha256sum --status -c /dev/shm/memory.sum && sha256sum --status -c /var/tmp/disk.sum \
    && bash -c 'exec 3<>/dev/tcp/127.0.0.1/7002; cat <&3' && cat /dev/shm/count
    """

  /// Makes a sandbox of the template `base` in which it runs.
  static func begin(_ server: MartletServer) async throws -> String {
    let id = try await server.createSandbox("--template", "base", "--memory", "256")
    _ = try await server.shell(id, script)
    try await server.cli("exec", "--detach", id, "--", "python3", "/var/tmp/stateful.py").expectSuccess()
    try await server.cli("exec", "--detach", id, "--", "sh", "-c", counting).expectSuccess()
    try await eventually("the workload runs") { (try? await check(server, id)) != nil }
    return id
  }

  /// Compares every checksum.
  @discardableResult
  static func check(_ server: MartletServer, _ id: String) async throws -> State {
    let lines = try await server.shell(id, question).split(separator: "\n")
    guard lines.count == 2, let counter = Int(lines[1]),
      var state = try? JSONDecoder().decode(State.self, from: Data(lines[0].utf8)),
      state.ok
    else { throw TestFailure("the guest's state is not what it was: \(lines)") }
    state.counter = counter
    return state
  }
}
