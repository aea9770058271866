import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.RandomAccessFile;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What Java does where a mapped file has been truncated; any version since 11.
 *
 * <p>java Truncated.java cost DIRECTORY: speaks the protocol of bench/baseline/sample.h. Mean of 200 first touches, from the load to
 * the caught error.
 *
 * <p>java Truncated.java once PATH OFFSET: maps the file, says so, waits for a line, and tells what a read at the offset did.
 */
public final class Truncated {
  private static final int FAULTS = 200;
  private static final int PAGE = 4096;
  private static final int SETTLE_MS = 20;
  private static final long WARM_UP_NS = 1_000_000_000L;

  private static int sum; // what was read is used

  public static void main(String[] args) throws Exception {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    if (args[0].equals("cost")) serve(input, Path.of(args[1]));
    else once(input, Path.of(args[1]), Integer.parseInt(args[2]));
  }

  private static void serve(BufferedReader input, Path directory) throws Exception {
    for (long start = System.nanoTime(); System.nanoTime() - start < WARM_UP_NS; ) sample(directory, 0);
    while (input.readLine() != null) System.out.println(sample(directory, SETTLE_MS));
  }

  private static double sample(Path directory, int settleMs) throws Exception {
    Path path = Files.createTempFile(directory, "revocable-bench-", ".tmp");
    MappedByteBuffer[] mappings = new MappedByteBuffer[FAULTS];
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      file.write(new byte[PAGE]);
      for (int i = 0; i < FAULTS; i++) {
        mappings[i] = file.getChannel().map(MapMode.READ_ONLY, 0, PAGE);
        sum += mappings[i].get(0);
      }
      file.setLength(0);
    } finally {
      Files.delete(path);
    }
    Thread.sleep(settleMs);
    int caught = 0;
    long start = System.nanoTime();
    for (MappedByteBuffer mapping : mappings) if (throwsError(mapping)) caught++;
    long end = System.nanoTime();
    if (caught != FAULTS) throw new IllegalStateException(caught + " of " + FAULTS + " reads threw");
    return (double) (end - start) / FAULTS;
  }

  private static boolean throwsError(MappedByteBuffer mapping) {
    try {
      sum += read(mapping);
      return false;
    } catch (InternalError error) {
      return true;
    }
  }

  /**
   * Not to be inlined (-XX:CompileCommand=dontinline,Truncated::read): compiled code throws at its next safepoint, a return at the
   * latest, which behind inlining lies outside the try block.
   */
  private static byte read(MappedByteBuffer mapping) {
    return mapping.get(0);
  }

  private static void once(BufferedReader input, Path path, int offset) throws IOException {
    try (FileChannel channel = FileChannel.open(path)) {
      MappedByteBuffer mapping = channel.map(MapMode.READ_ONLY, 0, channel.size());
      sum += mapping.get(offset);
      System.out.println("ready");
      input.readLine();
      System.out.println("reads " + mapping.get(offset));
    } catch (InternalError error) {
      System.out.println("throws InternalError: " + error.getMessage());
    }
  }
}
