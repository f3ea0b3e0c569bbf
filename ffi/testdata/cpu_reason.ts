// Says where the processors' clocks come from under the permissions it was given, for cpu_test.ts.
import { cpuSampler } from "../cpu.ts";

cpuSampler().then((sampler) => {
  const { source, reason } = sampler;
  const known = sampler.sample().busyPercent !== undefined;
  console.log(JSON.stringify({ source, reason, known }));
  sampler.close();
});
