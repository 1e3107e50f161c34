// A minimal guest agent: responds to every connection on port 49983 after running a process. It measures the cost of a
// restore in a guest whose agent costs nothing.
//
// usage: as the first process of a guest; with an argument it is the process that the agent runs, which does nothing.

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <spawn.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void configure(int fd, unsigned long call, const char *address) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, "eth0");
  struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
  in->sin_family = AF_INET;
  inet_pton(AF_INET, address, &in->sin_addr);
  while (ioctl(fd, call, &request) < 0) usleep(5000);
}

static void up(int fd) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, "eth0");
  ioctl(fd, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  ioctl(fd, SIOCSIFFLAGS, &request);
}

int main(int count, char **words) {
  (void)words;
  if (count > 1) return 0;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  configure(fd, SIOCSIFADDR, "169.254.0.21");
  configure(fd, SIOCSIFNETMASK, "255.255.255.252");
  up(fd);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(49983)};
  bind(fd, (struct sockaddr *)&address, sizeof address);
  listen(fd, 16);
  char *arguments[] = {"envd", "nothing", NULL}, *environment[] = {NULL};
  for (;;) {
    char buffer[4096];
    int connection = accept(fd, NULL, NULL);
    if (connection < 0) continue;
    while (read(connection, buffer, sizeof buffer) > 0) {
      pid_t pid;
      if (posix_spawn(&pid, "/usr/local/bin/envd", NULL, NULL, arguments, environment) == 0) waitpid(pid, NULL, 0);
      static const char response[] = "HTTP/1.1 204 No Content\r\n\r\n";
      if (write(connection, answer, sizeof answer - 1) < 0) break;
    }
    close(connection);
  }
}
