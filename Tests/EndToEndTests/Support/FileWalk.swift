import Foundation
import LinuxSystem

/// All that a user can reach, looked at by a process that has become this user: in the namespaces of a VMM, as a
/// captured VMM would, or on the host.
struct FileWalk: Decodable {
  /// Secrets that were found, with the file that each was in.
  let found: [String: String]
  /// Files and directories that can be written.
  let writable: [String]
  /// Sockets that can be connected to.
  let connected: [String]
  /// Directories that could be listed.
  let listed: [String]
  /// Names that listings had.
  let seen: [String]
  /// Numbers in /proc.
  let processes: [Int]

  /// - Parameters:
  ///   - machine: the VMM whose namespaces to enter; nil for the host.
  ///   - roots: where to begin.
  static func run(
    as userID: UInt32, in machine: Int32? = nil, roots: [String], secrets: [String]
  ) async throws -> FileWalk {
    let arguments = ["-c", script, "\(userID)", "\(machine ?? 0)"] + roots
    // Not as an argument: the walk finds its own.
    let output = try await Tool.run(
      "python3", arguments, input: secrets.joined(separator: ","), deadline: .seconds(120), outputLimit: 64 << 20
    ).checked()
    return try JSONDecoder().decode(FileWalk.self, from: Data(output.standardOutput))
  }

  /// All modules are loaded before the namespaces are entered, in which there is no Python.
  private static let script = #"""
    import ctypes, json, os, socket, stat, sys
    user, machine, roots = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    secrets = sys.stdin.read().encode().split(b",")
    "preload".encode("utf-8").decode("utf-8", "surrogateescape")
    libc = ctypes.CDLL(None, use_errno=True)
    if machine:
        spaces = [os.open(f"/proc/{machine}/ns/{kind}", os.O_RDONLY) for kind in ("ipc", "uts", "net", "pid", "mnt")]
        for space in spaces:
            assert libc.setns(space, 0) == 0, os.strerror(ctypes.get_errno())
            os.close(space)
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as result: text = result.read()
        os.waitpid(child, 0)
        sys.stdout.write(text)
        sys.exit(0 if text else 1)
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
    found, writable, connected, listed, seen = {}, [], [], [], []
    def look(path):
        try: kind = os.lstat(path).st_mode
        except OSError: return
        if stat.S_ISLNK(kind): return
        if stat.S_ISSOCK(kind):
            try:
                with socket.socket(socket.AF_UNIX) as s: s.connect(path); connected.append(path)
            except OSError: pass
            return
        if not stat.S_ISREG(kind): return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            keep = b""
            try:
                # Text of /proc is short; a disk is not.
                while block := os.read(fd, 1 << 20):
                    for secret in secrets:
                        if secret in keep + block: found[secret.decode()] = path
                    keep = block[-128:]
            finally: os.close(fd)
        except OSError: pass
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)); writable.append(path)
        except OSError: pass
    def walk(path):
        look(path)
        try: names = os.listdir(path)
        except OSError: return
        listed.append(path)
        if os.access(path, os.W_OK): writable.append(path)
        for name in names:
            below = os.path.join(path, name)
            seen.append(below)
            try: kind = os.lstat(below).st_mode
            except OSError: continue
            if stat.S_ISDIR(kind):
                # Its own threads and this script's files say nothing of others, and are many.
                if name not in ("task", "map_files", "net", "sys", "irq"): walk(below)
            else: look(below)
    for root in roots: walk(root)
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    with os.fdopen(write, "w") as result:
        json.dump(
            dict(
                found=found, writable=writable, connected=connected, listed=listed, seen=seen, processes=processes),
            result)
    """#
}
