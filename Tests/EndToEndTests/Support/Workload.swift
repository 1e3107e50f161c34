import Foundation
import LinuxSystem

/// A guest with state in several places: a counting process, files with checksums in memory and on disk, and a Python
/// process with a dictionary and a connection to itself, which records jumps of its clock.
enum Workload {
  /// The guest's report of its state.
  struct State: Decodable {
    /// Number of requests to its Python process.
    let asked: Int
    /// Whether the connection and the dictionary's digest are unchanged.
    let ok: Bool
    /// The guest's time, in seconds since 1970.
    let wall: Double
    /// The difference of the clock and the time since boot.
    let offset: Double
    /// All such differences that a user process has seen, rounded to 20 ms.
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
            # Otherwise the VM was stopped between the two readings.
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
        report = {"ok": ok, "asked": asked, "wall": wall, "offset": offset, "offsets": offsets}
        caller.sendall(json.dumps(report).encode() + b"\\n")
        caller.close()
    END
    """

  private static let counting =
    "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/count.new; mv /dev/shm/count.new /dev/shm/count; sleep 0.5; "
    + "done"

  /// Bash sends the request, because a second Python process would start slowly.
  private static let question = """
    sha256sum --status -c /dev/shm/memory.sum && sha256sum --status -c /var/tmp/disk.sum \
    && bash -c 'exec 3<>/dev/tcp/127.0.0.1/7002; cat <&3' && cat /dev/shm/count
    """

  /// Creates a sandbox of the template `base` that runs the workload.
  static func begin(_ server: MartletServer) async throws -> String {
    let id = try await server.createSandbox("--template", "base", "--memory", "256")
    _ = try await server.shell(id, script)
    try await server.cli("exec", "--detach", id, "--", "python3", "/var/tmp/stateful.py").expectSuccess()
    try await server.cli("exec", "--detach", id, "--", "sh", "-c", counting).expectSuccess()
    try await eventually("the workload runs") { (try? await check(server, id)) != nil }
    return id
  }

  /// Checks all checksums.
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
