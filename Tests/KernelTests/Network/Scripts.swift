/// Small Python programs that act as guests and servers. Each ends at the end of its standard input, so that none
/// outlives the tests.
enum Scripts {
  private static let common = """
    import ctypes, fcntl, json, os, select, socket, struct, subprocess, sys, threading, time
    def end_with_input():
        while os.read(0, 4096): pass
        os._exit(0)
    def enter(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0
    def daemon():
        threading.Thread(target=end_with_input, daemon=True).start()

    """

  /// Connects the sandbox's TAP device and `eth0` of a guest namespace: arguments are the two namespaces, the guest's
  /// address and route.
  static let guest =
    common + """
      def tap(name):
          fd = os.open('/dev/net/tun', os.O_RDWR)
          # TAP, no packet information, vnet header
          fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x5002))
          return fd
      sandbox, inside, mac, address, gateway = sys.argv[1:6]
      enter(sandbox)
      outer = tap('tap0')
      enter(inside)
      inner = tap('eth0')
      batch = f'''link set lo up
      link set eth0 address {mac}
      addr add {address}/30 dev eth0
      link set eth0 up
      route add default via {gateway}
      '''
      subprocess.run(['ip', '-batch', '-'], input=batch.encode(), check=True)
      daemon()
      print('ready', flush=True)
      while True:
          for fd in select.select([outer, inner], [], [])[0]:
              try: os.write(inner if fd == outer else outer, os.read(fd, 70000))
              except OSError: pass

      """

  /// Responds on TCP and UDP with the client's address; arguments are ports.
  static let server =
    common + """
      daemon()
      def tcp(s):
          while True:
              c, peer = s.accept()
              c.settimeout(5)
              try:
                  c.recv(100); c.sendall(peer[0].encode()); c.close()
              except OSError: pass
      def udp(s):
          while True:
              _, ((_, _, info),), _, peer = s.recvmsg(2000, 64)  # respond from the address that received the packet
              s.sendmsg([peer[0].encode()], [(socket.IPPROTO_IP, 8, struct.pack('i4s4x', 0, info[8:12]))], 0, peer)
      for port in map(int, sys.argv[1:]):
          for kind, loop in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
              s = socket.socket(socket.AF_INET, kind)
              s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
              s.bind(('0.0.0.0', port))
              if kind == socket.SOCK_STREAM: s.listen(16)
              else: s.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
              threading.Thread(target=loop, args=(s,), daemon=True).start()
      print('ready', flush=True)
      threading.Event().wait()

      """

  /// Tries all `tcp:ADDRESS:PORT` or `udp:ADDRESS:PORT[:SOURCE]` concurrently; prints one line each: outcome,
  /// milliseconds, response.
  static let probe =
    common + """
      results = {}
      def attempt(index, target):
          kind, address, port, *source = target.split(':')
          start = time.monotonic()
          response = ''
          try:
              with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM) as s:
                  s.settimeout(2)
                  if source: s.bind((source[0], 0))
                  s.connect((address, int(port)))
                  s.sendall(b'ping')
                  response = s.recv(100).decode()
              outcome = 'responded' if response else 'refused'
          except TimeoutError: outcome = 'silent'
          except OSError: outcome = 'refused'
          results[index] = f'{outcome} {int((time.monotonic() - start) * 1000)} {response}'
      threads = [threading.Thread(target=attempt, args=pair) for pair in enumerate(sys.argv[1:])]
      for t in threads: t.start()
      for t in threads: t.join()
      for index in sorted(results): print(results[index])

      """
}
