import Glibc

/// Checks of the distribution's programs and files that the server needs.
struct ToolProbes: Sendable {
  /// A program, its Debian package, and its purpose.
  struct Tool: Sendable {
    var check: String
    var program: String
    var package: String
    var purpose: String
    /// The fallback; nil if sandboxes cannot run without the program.
    var usedInstead: String?
  }

  static var tools: [Tool] {
    [
      Tool(check: "qemu", program: emulator, package: emulatorPackage, purpose: "run microVMs"),
      Tool(check: "qemu_img", program: "qemu-img", package: "qemu-utils", purpose: "create disk overlays"),
      Tool(check: "ip", program: "ip", package: "iproute2", purpose: "connect sandboxes to the network"),
      Tool(check: "nft", program: "nft", package: "nftables", purpose: "isolate sandboxes"),
      Tool(check: "mkfs_ext4", program: "mkfs.ext4", package: "e2fsprogs", purpose: "build images"),
      Tool(
        check: "mmdebstrap", program: "mmdebstrap", package: "mmdebstrap", purpose: "build the template `base`",
        usedInstead: "existing templates and `minimal`"),
    ]
  }

  #if arch(arm64)
    private static let emulator = "qemu-system-aarch64"
    private static let emulatorPackage = "qemu-system-arm"
  #else
    private static let emulator = "qemu-system-x86_64"
    private static let emulatorPackage = "qemu-system-x86"
  #endif

  static let firmwarePaths = [
    "/usr/share/qemu/qboot.rom", "/usr/share/qemu-kvm/qboot.rom", "/usr/local/share/qemu/qboot.rom",
  ]
  /// Searched after PATH, because the caller's PATH may lack root's directories.
  private static let systemDirectories = [
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
  ]

  let searchPath: String?
  let isExecutable: @Sendable (String) -> Bool

  init(searchPath: String?, isExecutable: @escaping @Sendable (String) -> Bool = { access($0, X_OK) == 0 }) {
    self.searchPath = searchPath
    self.isExecutable = isExecutable
  }

  func checks() -> [DoctorCheck] { Self.tools.map(check) + [firmware()] }

  func check(_ tool: Tool) -> DoctorCheck {
    if let path = locate(tool.program) { return DoctorCheck(tool.check, .ok, path) }
    return DoctorCheck(
      tool.check, tool.usedInstead == nil ? .missing : .degraded,
      "\(tool.program) is not installed; it is needed to \(tool.purpose)",
      remedy: "apt-get install \(tool.package)", usedInstead: tool.usedInstead)
  }

  private func firmware() -> DoctorCheck {
    if let path = Self.firmwarePaths.first(where: { access($0, R_OK) == 0 }) { return DoctorCheck("qboot", .ok, path) }
    return DoctorCheck(
      "qboot", .missing,
      "QEMU's firmware qboot.rom is not installed; the default firmware corrupts guest memory on microvm machines",
      remedy: "apt-get install qemu-system-data")
  }

  private func locate(_ program: String) -> String? {
    let listed = (searchPath ?? "").split(separator: ":").map(String.init)
    return (listed + Self.systemDirectories).map { "\($0)/\(program)" }.first(where: isExecutable)
  }
}
